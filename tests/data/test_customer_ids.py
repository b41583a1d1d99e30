import re

import pytest

from churn_utils.data.customer_ids import DOCUMENTED_ID_PATTERN, ID_PATTERN

SURROGATES = range(0xD800, 0xE000)
CHARACTERS = [chr(code) for code in range(0x110000) if code not in SURROGATES]


@pytest.mark.parametrize("form", ["{}", "a{}", "{}a", "a{}b"])
def test_the_documented_pattern_is_the_rule_itself(form):
    rule = re.compile(ID_PATTERN.replace("$", r"\Z"))
    documented = re.compile(DOCUMENTED_ID_PATTERN.replace("$", r"\Z"))
    differing = [
        character
        for character in CHARACTERS
        if bool(rule.match(form.format(character)))
        != bool(documented.match(form.format(character)))
    ]
    assert differing == []
    assert rule.match("Müller 1") and documented.match("Müller 1")
