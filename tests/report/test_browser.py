"""The page in a real browser, Chromium without a window. To be measured, it is shown without its policy."""

import html
import json
import re
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from pruneas.report.comparison_page import comparison_page
from pruneas.report.page import POLICY
from pruneas.report.run_page import run_page
from tests.report.comparisons import made_up_state, whole_comparison
from tests.report.test_comparison_page import many_widths

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)

MEASURE = """
<script>
const width = document.documentElement.clientWidth;
const drawn = [...document.querySelectorAll("figure")].map(figure => ({
  title: figure.querySelector("h3").textContent,
  svg: [...figure.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect().width),
  marks: [...figure.querySelectorAll(".mark")].map(mark => {
    const box = mark.getBoundingClientRect(), svg = mark.closest("svg").getBoundingClientRect();
    const shape = getComputedStyle(mark.querySelector(":not(title)"));
    const colours = [shape.fill, shape.stroke].filter(c => c !== "none" && c !== "rgba(0, 0, 0, 0)");
    return {
      inside: box.left >= svg.left - 1 && box.right <= svg.right + 1 && box.top >= svg.top && box.bottom <= svg.bottom,
      seen: box.width + box.height > 0 && colours.length > 0,
    };
  }),
}));
const texts = [...document.querySelectorAll("svg text")].map(text => text.getBoundingClientRect());
document.body.innerHTML = "<pre id='found'>" + JSON.stringify({
  width, scroll: document.documentElement.scrollWidth, drawn,
  textsInside: texts.every(box => box.left >= -1 && box.right <= width + 1),
  ink: getComputedStyle(document.documentElement).getPropertyValue("--ink").trim(),
}).replaceAll("&", "&amp;").replaceAll("<", "&lt;") + "</pre>";
</script>
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (Debian: apt-get install chromium)"),
]


@pytest.fixture
def network():
    """Everything that a page asks the network for, of any host, instead of getting it. What the browser asks its maker
    for, whatever it shows, is left out: it has no switch for all of that."""
    asked = []

    class Refusing(BaseHTTPRequestHandler):
        def answer(self):
            host = urlsplit(self.path if "://" in self.path else f"//{self.path}").hostname or ""
            if not host.endswith((".google.com", ".googleapis.com")):
                asked.append(f"{self.command} {self.path}")
            self.send_error(404)

        do_GET = do_POST = do_CONNECT = do_HEAD = do_OPTIONS = answer

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def browse(path, proxy, tmp_path, *flags):
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    found = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", *quiet,
         f"--proxy-server={proxy}", "--proxy-bypass-list=<-loopback>", *flags, path.as_uri()],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.fixture(params=["run", "comparison"])
def text(request, made_up_run):
    """The page of a run, and of a comparison."""
    return run_page(made_up_run) if request.param == "run" else comparison_page(made_up_state(whole_comparison()))


@pytest.mark.parametrize(
    ("size", "flags"), [("1200,900", []), ("500,900", ["--blink-settings=preferredColorScheme=0"])]
)  # fmt: skip
def test_every_figure_is_drawn_inside_its_frame_and_nothing_is_fetched(text, network, tmp_path, size, flags):
    proxy, asked = network
    assert html.escape(POLICY) in text
    measured = text.replace(html.escape(POLICY), "").replace("</body>", MEASURE + "</body>")
    page = tmp_path / "report.html"
    page.write_text(measured, encoding="utf-8")
    dumped = browse(page, proxy, tmp_path, f"--window-size={size}", "--dump-dom", *flags)
    found = json.loads(html.unescape(re.search(r"<pre id=\"found\">(.*?)</pre>", dumped, re.DOTALL).group(1)))
    assert len(found["drawn"]) == text.count("<figure>") >= 11
    assert sum(len(figure["marks"]) for figure in found["drawn"]) == len(re.findall('class="mark ', text))
    for figure in found["drawn"]:
        assert min(figure["svg"]) > 250, figure["title"]
        assert all(mark["seen"] and mark["inside"] for mark in figure["marks"]), figure["title"]
    assert found["scroll"] <= found["width"]  # no sideways scrolling, on a phone neither
    assert found["textsInside"]
    assert found["ink"] == ("#e7eaee" if flags else "#1b1f24")
    assert asked == []


def test_what_a_page_fetches_would_be_seen(network, tmp_path):
    proxy, asked = network
    page = tmp_path / "fetching.html"
    page.write_text('<img src="http://figures.example/a.png"><img src="https://figures.example/b.png">')
    browse(page, proxy, tmp_path, "--dump-dom")
    assert sorted(asked) == ["CONNECT figures.example:443", "GET http://figures.example/a.png"]


def test_a_script_would_not_run(made_up_run, network, tmp_path):
    proxy, _ = network
    page = tmp_path / "report.html"
    page.write_text(run_page(made_up_run).replace("</body>", MEASURE + "</body>"), encoding="utf-8")
    assert '<pre id="found">' not in browse(page, proxy, tmp_path, "--dump-dom")


def test_folded_figures_are_printed(network, tmp_path):
    proxy, _ = network
    found = whole_comparison()
    pages = []
    for name, record in {"few": found, "many": many_widths(found)}.items():
        folder = tmp_path / name  # with a profile of its own: a browser that has just ended may still hold its
        folder.mkdir()
        page, paper = folder / "report.html", folder / "report.pdf"
        page.write_text(comparison_page(made_up_state(record)), encoding="utf-8")
        browse(page, proxy, folder, f"--print-to-pdf={paper}", "--no-pdf-header-footer")
        pages.append(len(re.findall(rb"/Type\s*/Page\b", paper.read_bytes())))
    assert pages[1] > pages[0]  # ten figures more


def test_it_prints(text, network, tmp_path):
    proxy, _ = network
    page, paper = tmp_path / "report.html", tmp_path / "report.pdf"
    page.write_text(text, encoding="utf-8")
    browse(page, proxy, tmp_path, f"--print-to-pdf={paper}", "--no-pdf-header-footer")
    pages = re.findall(rb"/Type\s*/Page\b", paper.read_bytes())
    assert 3 <= len(pages) <= 3 + text.count("<figure>") / 2  # two beside one another, two such rows a page
