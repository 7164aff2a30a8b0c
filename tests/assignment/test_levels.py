import pytest

from mpsim.assignment import LEVELS, PAPER_LEVELS, Levels, parse_levels
from mpsim.formats import FORMATS


def names(formats: dict) -> list[str]:
    return [format.name for format in formats.values()]


def test_the_papers_levels() -> None:
    assert names(PAPER_LEVELS.high) == ["fp_6_9_0"] * 4
    assert names(PAPER_LEVELS.low) == ["fp_4_3_4", "fp_4_3_4", "fp_5_2_0", "fp_6_9_0"]


@pytest.mark.parametrize("name", LEVELS)
def test_a_name_and_its_spelled_out_form_are_the_same_levels(name: str) -> None:
    levels = parse_levels(name)
    assert str(levels) == name
    assert parse_levels(str(Levels(levels.high, levels.low))) == levels


def test_text_form() -> None:
    levels = parse_levels("float16: float8_e4m3fn, float8_e5m2, bfloat16")
    assert names(levels.high) == ["float16"] * 4
    assert names(levels.low) == ["float8_e4m3fn", "float8_e4m3fn", "float8_e5m2", "bfloat16"]
    assert names(parse_levels("float16:fp_3_2_0").low) == ["fp_3_2_0", "fp_3_2_0", "fp_3_2_0", "float16"]
    assert parse_levels(levels) is levels


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("papr", "did you mean paper"),
        ("fp_6_9_0", "HIGH:FORWARD,BACKWARD"),
        ("fp_6_9_0:", "HIGH:FORWARD,BACKWARD"),
        ("fp_6_9_0:a,b,c,d", "HIGH:FORWARD,BACKWARD"),
        ("fp_6_9_0:float8_e4m3f", "it may mean float8_e4m3fn"),
    ],
)
def test_unknown_levels(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_levels(text)


def test_a_missing_role_is_named() -> None:
    with pytest.raises(ValueError, match="parameter_gradient"):
        Levels(PAPER_LEVELS.high, {"activation": "float16"})


def test_what_counts_as_low() -> None:
    levels = Levels.of("fp_6_9_0", "bfloat16", "float8_e5m2")  # forward: as wide as high, but another format
    assert levels.holds_low("activation", FORMATS["bfloat16"])
    assert not levels.holds_low("activation", FORMATS["fp_6_9_0"])
    assert not levels.holds_low("activation", FORMATS["float32"])
    assert levels.holds_low("activation_gradient", FORMATS["fp_4_1_0"])  # neither level, but narrower than high
    assert not levels.holds_low("parameter_gradient", FORMATS["fp_6_9_0"])  # low is high here
