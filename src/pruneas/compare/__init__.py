"""Found architectures held against uniform scaling, with seeds, spread and intervals."""
