"""Values of options: what is taken, and that a wrong one says which are right."""

import pytest
import typer

from fleet.cli.choices import parse_precision, parse_size


@pytest.mark.parametrize(("text", "value"), [(None, None), ("f32", "f32"), ("BF16", "bf16")])
def test_a_precision(text, value):
    assert parse_precision(text) == value


def test_an_unknown_precision_names_the_known_ones():
    with pytest.raises(typer.BadParameter, match="`f64` is none of f32, f16, bf16, int8"):
        parse_precision("f64")


@pytest.mark.parametrize(("text", "value"), [(None, None), ("481x353", (481, 353))])
def test_a_size(text, value):
    assert parse_size(text) == value


@pytest.mark.parametrize("text", ["481", "481x", "0x353", "-1x2", "481X353"])
def test_no_size_says_how_to_write_one(text):
    with pytest.raises(typer.BadParameter, match="WIDTHxHEIGHT"):
        parse_size(text)
