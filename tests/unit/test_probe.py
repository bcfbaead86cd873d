"""What a node says of itself: every driver is asked, one that fails hides nobody."""

import platform

import pytest

from agents import __main__ as agents_main
from agents.accelerators import ACCELERATORS
from agents.errors import AcceleratorError
from agents.probe import find_accelerator, make_advert, node_name, probe_accelerators
from agents.wire.messages import NodeAdvert


@pytest.fixture
def drivers(monkeypatch):
    """Replace the drivers of this machine: name -> a class of `fakes`, or what is not there."""

    def use(**targets):
        for name in list(ACCELERATORS):
            monkeypatch.delitem(ACCELERATORS, name)
        for name, target in targets.items():
            monkeypatch.setitem(ACCELERATORS, name, target)

    return use


def test_the_node_is_called_after_its_host_without_the_domain(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "pi.lab.example.org")
    assert node_name() == "pi"
    monkeypatch.setattr("socket.gethostname", lambda: "")
    assert node_name() == "node"


def test_accelerators_get_an_id_that_names_node_kind_and_device(drivers):
    drivers(coral="fakes:GoodDriver")
    found, problems = probe_accelerators("pi")
    assert [info.id for info in found] == ["pi/edgetpu:usb:0", "pi/edgetpu:usb:1"]
    assert {info.driver for info in found} == {"coral"}
    assert problems == ()


def test_a_driver_that_fails_is_a_sentence_and_hides_nobody(drivers):
    drivers(vague="fakes:VagueDriver", missing="no_vendor:Driver", coral="fakes:GoodDriver")
    found, problems = probe_accelerators("pi")
    assert len(found) == 2
    assert len(problems) == 2
    assert problems[0].startswith("driver vague describes no accelerator: kind: ")
    assert "driver 'missing' cannot be loaded" in problems[1]
    assert not any("\n" in problem for problem in problems)


@pytest.mark.parametrize("name", [None, "usb:0", "USB:0", "edgetpu", "EdgeTPU"])
def test_an_accelerator_is_found_by_device_or_kind_in_any_case(drivers, name):
    drivers(coral="fakes:GoodDriver")
    assert find_accelerator(name).device == "usb:0"


def test_an_accelerator_is_found_by_its_id(drivers):
    drivers(coral="fakes:GoodDriver")
    assert find_accelerator(f"{node_name()}/edgetpu:usb:1").device == "usb:1"


def test_an_unknown_accelerator_is_refused_with_what_is_there_and_what_is_wrong(drivers):
    drivers(coral="fakes:GoodDriver", missing="no_vendor:Driver")
    with pytest.raises(AcceleratorError, match="no accelerator 'GPU' on this machine") as caught:
        find_accelerator("GPU")
    assert "found: usb:0, usb:1" in caught.value.hint
    assert "missing" in caught.value.hint
    drivers()
    with pytest.raises(AcceleratorError, match="no accelerator on this machine") as caught:
        find_accelerator(None)
    assert "found: none" in caught.value.hint


def test_the_advert_describes_this_machine(drivers):
    drivers(coral="fakes:GoodDriver")
    advert = make_advert("pi", probe_accelerators("pi")[0])
    assert (advert.node, advert.machine) == ("pi", platform.machine())
    assert advert.cores >= 1
    assert advert.memory_bytes > 1 << 20
    assert [info.kind for info in advert.accelerators] == ["edgetpu", "edgetpu"]


def test_the_module_prints_the_advert_and_keeps_problems_apart(drivers, capsys):
    drivers(missing="no_vendor:Driver", coral="fakes:GoodDriver")
    assert agents_main.main() == 0
    printed = capsys.readouterr()
    assert len(NodeAdvert.from_json(printed.out).accelerators) == 2
    assert printed.err.startswith("driver missing: ")
    assert printed.err.count("\n") == 1
