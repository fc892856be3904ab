from pruneas.report.markup import Markup, joined, tag


def test_text_is_escaped_and_markup_is_not():
    inner = tag("b", "a < b & 'c'")
    assert inner == "<b>a &lt; b &amp; &#x27;c&#x27;</b>"
    assert tag("p", "x>y ", inner) == f"<p>x&gt;y {inner}</p>"
    assert joined(["<", Markup("<br/>")], " & ") == "&lt; &amp; <br/>"


def test_attributes_are_escaped_named_as_in_html_and_left_out_where_none():
    written = tag("rect", class_='a"b', data_label="<", x=1.5, y=2.0, height=1 / 3, width=None)
    assert written == '<rect class="a&quot;b" data-label="&lt;" x="1.5" y="2" height="0.33"/>'


def test_what_no_document_may_hold_is_replaced():
    assert tag("p", "a\x00b\x1b[31m\ud800\n") == "<p>a�b�[31m�\n</p>"


def test_empty_elements_are_closed():
    assert tag("p") == "<p></p>"
    assert tag("circle", r=1.0) == '<circle r="1"/>'
