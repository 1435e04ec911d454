"""What a job lacks in its queue, from Kueue's message."""

import pytest

from launcher.status.diagnose.quota_message import obstacle, shortage
from launcher.status.diagnose.wording import quoted

PREFIX = "couldn't assign flavors to pod set node: "


def waits(name="habana.ai/gaudi", flavor="a", more="8"):
    return f"insufficient unused quota for {name} in flavor {flavor}, {more} more needed"


def exceeds(name="habana.ai/gaudi", flavor="a", before="0", asked="16", most="8"):
    return (
        f"insufficient quota for {name} in flavor {flavor}, previously considered podsets requests ({before}) + "
        f"current podset request ({asked}) > maximum capacity ({most})"
    )


@pytest.mark.parametrize(
    ("reasons", "wanted", "never"),
    [
        pytest.param([waits()], "8 more habana.ai/gaudi of flavor a must become free", "", id="waits"),
        pytest.param(
            [waits(), waits("memory", more="2Gi")],
            "8 more habana.ai/gaudi and 2Gi more memory of flavor a must become free",
            "",
            id="two-resources",
        ),
        pytest.param(
            [exceeds(), waits(flavor="b")],
            "8 more habana.ai/gaudi of flavor b must become free",
            "",
            id="another-flavor",
        ),
        pytest.param([exceeds()], "", "it asks for 16 habana.ai/gaudi, 8 too many: flavor a has at most 8", id="never"),
        pytest.param(
            [exceeds("memory", asked="96Gi", most="64Gi")],
            "",
            "it asks for 96Gi memory, 32Gi too many: flavor a has at most 64Gi",
            id="sizes",
        ),
        pytest.param(
            [exceeds("cpu", before="500m", asked="2", most="1500m")],
            "",
            "it asks for 2500m cpu, 1 too many: flavor a has at most 1500m",
            id="sum-of-pod-sets",
        ),
        pytest.param(
            [exceeds(), waits("cpu", more="2")],
            "2 more cpu of flavor a must become free",
            "it asks for 16 habana.ai/gaudi, 8 too many: flavor a has at most 8",
            id="same-flavor",
        ),
        pytest.param(
            ["untolerated taint {pool gaudi NoSchedule <nil>} in flavor a", "flavor b doesn't match node affinity"],
            "",
            "flavor a has the taint {pool gaudi NoSchedule <nil>}; flavor b is for nodes with other labels",
            id="unfit",
        ),
        pytest.param(
            ["resource hugepages-2Mi unavailable in ClusterQueue"],
            "",
            "it has no quota for hugepages-2Mi",
            id="no-quota",
        ),
        pytest.param(["something new"], "", "", id="unknown"),
    ],
)
def test_shortage_and_obstacle_of_kueues_messages(reasons, wanted, never):
    """A job exceeding one flavor may still be admitted to another one for which it only waits."""
    said = PREFIX + ", ".join(reasons)
    assert (shortage(said), obstacle(said)) == (wanted, never)


def test_preemption_that_is_under_way_is_reported():
    assert shortage(f"{PREFIX}{waits()}. Pending the preemption of 2 workload(s)").endswith(
        "; Kueue preempts 2 jobs for it"
    )


def test_name_of_a_resource_is_not_cut():
    """Of many flavors, the first ones are shown whole."""
    cut = obstacle(PREFIX + ", ".join(exceeds(flavor=f"gaudi{number}") for number in range(40)))
    whole = (
        f"it asks for 16 habana.ai/gaudi, 8 too many: {', '.join(f'flavor gaudi{n} has at most 8' for n in range(40))}"
    )
    assert len(cut) <= 240
    assert whole.startswith(f"{cut.removesuffix('…')} ")


@pytest.mark.parametrize("length", range(20, 60))
def test_quoted_text_is_cut_between_words(length):
    text = "insufficient quota for habana.ai/gaudi in flavor gaudi2-of-the-second-floor"
    cut = quoted(text, length)
    assert len(cut) <= length
    assert text.startswith(cut.removesuffix("…"))
    assert text[len(cut) - 1 :].startswith(" ")


def test_long_word_is_cut_all_the_same():
    assert quoted("a " + "x" * 50, 20) == "a " + "x" * 17 + "…"
