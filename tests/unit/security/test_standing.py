"""Who belongs and who may admit, from statements: expelling, what of an expelled admin counts, mutual expulsion."""

import itertools

from dmssd.security.acts import TOPIC_ADMIT, TOPIC_EXPEL, VOTE_CODEC, Vote
from dmssd.security.certificate import CAPABILITY_RECOVERY
from tests.unit.security.realm import Realm


def large() -> Realm:
    """n0 founded; n1, n2, n3 are admins too; m4 to m7 are not, each admitted by another admin."""
    realm = Realm()
    for name in ("n1", "n2", "n3"):
        realm.admit("n0", name, admin=True)
    for issuer, name in (("n0", "m4"), ("n1", "m5"), ("n2", "m6"), ("n3", "m7")):
        realm.admit(issuer, name)
    return realm


def test_one_admin_expels_an_ordinary_member():
    realm = large()
    realm.vote("n1", "m4")
    assert realm.expelled() == {"m4"}
    assert realm.judge().refusal(realm.members["m4"].chain) == "expelled from the mesh"
    assert realm.judge().refusal(realm.members["m5"].chain) is None


def test_one_who_is_no_admin_expels_nobody():
    realm = large()
    realm.vote("m4", "m5")
    realm.vote("m6", "m5")
    assert realm.expelled() == set()


def test_an_admin_is_expelled_by_two_others_and_not_by_one():
    realm = large()
    realm.vote("n1", "n2")
    assert realm.expelled() == set()
    realm.vote("n1", "n2")  # the same admin again
    assert realm.expelled() == set()
    realm.vote("n3", "n2")
    assert realm.expelled() == {"n2"}


def test_a_vote_that_comes_before_the_admission_of_an_admin_expels_it_no_sooner():
    realm = large()
    vote = realm.vote("n1", "n2", of_admin=True)
    earlier = [held for held in realm.stated if held.key.subject != realm.node("n2") or held is vote]
    assert realm.expelled(earlier) == set()
    assert realm.expelled() == set()
    second = realm.vote("n3", "n2")
    assert realm.expelled([*earlier, second]) == realm.expelled() == {"n2"}


def test_that_a_member_is_said_to_be_an_admin_keeps_it_from_no_second_vote():
    realm = large()
    realm.vote("n1", "m4", of_admin=True)
    assert realm.expelled() == set()
    realm.vote("n2", "m4")
    assert realm.expelled() == {"m4"}


def test_a_vote_upon_oneself_is_a_resignation_for_members_and_for_admins():
    realm = large()
    realm.vote("m4", "m4")
    assert realm.expelled() == {"m4"}
    realm.vote("n1", "n1", known=[realm.mark("m5")])
    assert realm.expelled() == {"m4", "n1"}
    assert realm.judge().refusal(realm.members["m5"].chain) is None
    assert realm.judge().refusal(realm.members["n1"].chain) == "expelled from the mesh"


def test_what_a_resigned_admin_did_not_name_does_not_count():
    realm = large()
    realm.vote("n1", "n1", known=[realm.mark("m5")])
    realm.admit("n1", "m8")
    assert realm.judge().refusal(realm.members["m8"].chain) == "certificate by an expelled admin"
    realm.vote("n1", "m6")
    assert realm.expelled() == {"n1"}


def test_votes_that_a_resignation_names_go_on_to_count():
    realm = large()
    against = realm.vote("n1", "n2")
    realm.vote("n1", "n1", known=[against.mark])
    assert realm.expelled() == {"n1"}
    realm.vote("n3", "n2")
    assert realm.expelled() == {"n1", "n2"}


def test_the_last_admin_does_not_resign():
    realm = Realm()
    realm.admit("n0", "m1")
    realm.vote("n0", "n0")
    assert realm.expelled() == set()


def test_the_founder_is_expelled_as_any_admin_and_the_mesh_goes_on():
    realm = large()
    known = [realm.mark(name) for name in ("n1", "n2", "n3", "m4")]
    realm.vote("n1", "n0", known)
    realm.vote("n2", "n0", known)
    standing = realm.judge()
    assert realm.expelled() == {"n0"}
    for name in ("n1", "n2", "n3", "m4", "m5"):
        assert standing.refusal(realm.members[name].chain) is None


def test_of_an_expelled_admin_only_certificates_that_were_known_count():
    realm = large()
    realm.vote("n1", "n2", [realm.mark("m6")])
    realm.vote("n3", "n2")
    realm.admit("n2", "late")
    standing = realm.judge()
    assert standing.refusal(realm.members["m6"].chain) is None
    assert standing.refusal(realm.members["late"].chain) == "certificate by an expelled admin"


def test_a_vote_of_an_expelled_admin_counts_only_if_its_expellers_knew_it():
    realm = large()
    early = realm.vote("n2", "m4")
    realm.vote("n1", "n2", [early.mark])
    realm.vote("n3", "n2")
    realm.vote("n2", "m5")
    assert realm.expelled() == {"n2", "m4"}


def test_an_admin_made_by_an_expelled_one_after_the_fact_has_no_vote():
    realm = large()
    realm.vote("n1", "n2")
    realm.vote("n3", "n2")
    realm.admit("n2", "puppet", admin=True)
    realm.vote("puppet", "m4")
    assert realm.expelled() == {"n2"}


def test_the_votes_of_an_expelled_recovery_key_are_void_though_it_is_no_admin():
    realm = large()
    realm.admit("n0", "key", admin=True, also=CAPABILITY_RECOVERY)
    realm.vote("key", "m4")
    assert realm.expelled() == {"m4"}
    realm.vote("n0", "key")
    assert realm.expelled() == {"key"}


def test_in_a_mesh_of_three_one_admin_expels_another():
    realm = Realm()
    realm.admit("n0", "n1", admin=True)
    realm.admit("n0", "n2")
    realm.vote("n1", "n0", [realm.mark("n1"), realm.mark("n2")], ["n0", "n1", "n2"])
    assert realm.expelled() == {"n0"}


def test_a_vote_that_says_the_mesh_is_small_is_refuted_by_any_other_members_admission():
    realm = large()
    realm.vote("n1", "n0", [realm.mark("n1"), realm.mark("n2")], ["n0", "n1", "n2"])
    assert realm.expelled() == set()


def test_a_small_mesh_that_grew_later_does_not_take_its_expulsion_back():
    realm = Realm()
    realm.admit("n0", "n1", admin=True)
    realm.admit("n0", "n2", admin=True)
    vote = realm.vote("n0", "n2", (), ["n0", "n1", "n2"])
    for name in ("m3", "m4", "m5"):
        realm.admit("n0", name, cites=[vote])
    assert realm.expelled() == {"n2"}


def test_the_last_admin_cannot_be_expelled():
    realm = Realm()
    realm.admit("n0", "n1", admin=True)
    realm.admit("n0", "n2")
    realm.vote("n1", "n0", [realm.mark("n1"), realm.mark("n2")], ["n0", "n1", "n2"])
    realm.vote("n0", "n1", (), ["n0", "n1", "n2"])
    assert len(realm.expelled()) == 1


def test_two_admins_who_expel_each_other_in_a_partition_are_judged_alike_by_all_and_the_senior_stays():
    realm = Realm()
    realm.admit("n0", "n1", admin=True)
    realm.admit("n1", "n2", admin=True)
    everybody = ["n0", "n1", "n2"]
    by_junior = realm.vote("n2", "n1", [realm.mark("n2")], everybody)
    by_senior = realm.vote("n1", "n2", (), everybody)
    admissions = [each for each in realm.stated if each.key.topic == TOPIC_ADMIT]
    assert realm.expelled([*admissions, by_junior]) == {"n1"}  # as one side saw it, before they met
    assert realm.expelled([*admissions, by_senior]) == {"n2"}  # and the other
    for order in itertools.permutations([*admissions, by_junior, by_senior]):
        assert realm.expelled(order) == {"n2"}


def test_of_two_equally_senior_admins_the_lower_id_stays():
    realm = Realm()
    realm.admit("n0", "n1", admin=True)
    realm.admit("n0", "n2", admin=True)
    low, high = sorted(("n1", "n2"), key=realm.node)
    realm.vote(high, low, (), ["n0", "n1", "n2"])
    realm.vote(low, high, (), ["n0", "n1", "n2"])
    assert realm.expelled() == {high}


def test_two_pairs_of_admins_who_expel_one_of_the_other_pair_are_judged_by_the_most_senior_voter():
    realm = large()
    realm.vote("n0", "n2")
    realm.vote("n1", "n2")
    realm.vote("n2", "n1")
    realm.vote("n3", "n1")
    assert realm.expelled() == {"n2"}


def test_statements_that_say_nothing_readable_are_nobodys_acts():
    realm = large()
    realm.stated.append(realm.state("n1", TOPIC_EXPEL, realm.node("m4"), b"\xc1"))
    realm.stated.append(realm.state("n1", TOPIC_EXPEL, b"short", VOTE_CODEC.encode(Vote(()))))
    realm.stated.append(realm.state("n1", TOPIC_ADMIT, realm.node("m4"), b"\xc1"))
    assert realm.expelled() == set()


def test_admins_are_listed_by_seniority():
    realm = Realm()
    realm.admit("n0", "n1", admin=True)
    realm.admit("n1", "n2", admin=True)
    realm.admit("n0", "m3")
    assert realm.judge().seniority == (realm.node("n0"), realm.node("n1"), realm.node("n2"))
