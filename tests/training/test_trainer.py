"""A training step: what is rounded, what is skipped, what is promoted, and that all backends give one digest."""

import hashlib

import numpy as np
import pytest
from training_samples import BATCH, is_on_grid

import reference_models
from mpsim import kernels, ops
from mpsim.assignment import PAPER_LEVELS, Levels, demote, uniform
from mpsim.engine.tape import Tape
from mpsim.engine.tensor import TensorId
from mpsim.formats import FORMATS
from mpsim.products.accumulators import Accumulator
from mpsim.trace import trace
from mpsim.training.loss_scale import LossScale
from mpsim.training.optimizer import SGD
from mpsim.training.schedule import Constant
from mpsim.training.store import Rounder
from mpsim.training.trainer import Trainer

CASES = [
    (None, None, "paper"),
    ("uniform_high", None, "paper"),
    ("uniform_low", None, "paper"),
    ("operator_based", None, "six_bit"),
    ("largest_first", 0.6, "four_bit"),
]


@pytest.fixture(scope="module")
def reference_digests():
    """Digests of the reference backend, computed once for each case."""
    return {}


@pytest.mark.parametrize("semantics", ["standard", "lee2023"])
@pytest.mark.parametrize("scheme,ratio,levels", CASES)
@pytest.mark.parametrize("threads", [1, 2])
def test_three_steps_have_one_digest(
    fast_backend, threads, scheme, ratio, levels, semantics, make, batches, reference_digests
):
    def digest(backend, threads):
        trainer = make(scheme, semantics, levels, ratio, backend=backend, threads=threads)
        reports = [trainer.step(*batch) for batch in batches[:3]]
        facts = [(r.loss, r.logits.tobytes(), r.overflow, r.underflow, r.promoted, r.skipped) for r in reports]
        return trainer.digest(), facts

    case = (scheme, ratio, levels, semantics)
    if case not in reference_digests:
        reference_digests[case] = digest("reference", 1)
    assert digest(fast_backend, threads) == reference_digests[case]


def test_stochastic_rounding_has_one_digest_too_and_another_for_another_seed(fast_backend, make, batches):
    digests = []
    for backend, seed in (("reference", 5), (fast_backend, 5), (fast_backend, 6)):
        trainer = make("uniform_low", rounding="stochastic", random_bit_count=8, backend=backend, seed=seed)
        for batch in batches[:2]:
            trainer.step(*batch)
        digests.append(trainer.digest())
    assert digests[0] == digests[1] != digests[2]


def test_the_digest_is_over_the_masters_in_order(make, batches):
    trainer = make()
    trainer.step(*batches[0])
    parameters = trainer.model.parameters().values()
    content = b"".join(np.asarray(p.master).astype("<f4").tobytes() for p in parameters)
    assert trainer.digest() == hashlib.sha256(content).hexdigest()
    assert len(content) == 4 * sum(int(np.prod(p.shape)) for p in parameters)


def test_a_step_is_the_papers_step(make, batches):
    """The update recomputed by hand: rounded parameters, the tape, unscaling, momentum, decay."""
    trainer = make("uniform_low", optimizer=SGD(0.1, 0.9, 5e-4), promotion=None)
    twin = make("uniform_low", promotion=None)
    plan, bound, policies = twin.plan, twin.kernels, twin.recipe.policies
    ids = trace(twin.model, batch=BATCH).parameter_ids
    f = np.float32
    velocity = {name: np.zeros(p.shape, f) for name, p in twin.model.parameters().items()}
    for images, labels in batches[:2]:
        trainer.step(images, labels)
        store = Rounder(plan.formats, bound, policies)
        for name, p in twin.model.parameters().items():
            p.value = store(ids[name], p.master)
            assert is_on_grid(p.value, plan.formats[ids[name]])
        tape = Tape(bound, store)
        loss = ops.cross_entropy(twin.model(tape.input(images)), labels)
        for p, gradient in tape.backward(loss, 65536.0).items():
            g = f(gradient * f(2.0**-16) + f(5e-4) * p.master)
            velocity[p.name] = f(0.9) * velocity[p.name] + g
            p.replace(p.master - f(0.1) * velocity[p.name])
    expected = {name: p.master.tobytes() for name, p in twin.model.parameters().items()}
    assert {name: p.master.tobytes() for name, p in trainer.model.parameters().items()} == expected


@pytest.mark.parametrize("semantics", ["standard", "lee2023"])
def test_every_stored_tensor_is_of_its_format(semantics, make, batches, monkeypatch):
    stored = {}
    original = Rounder.__call__

    def recording(self, id, value):
        result = original(self, id, value)
        stored.setdefault(id, []).append(np.array(result))
        return result

    monkeypatch.setattr(Rounder, "__call__", recording)
    trainer = make("largest_first", semantics, "paper", 0.6)
    plan = trainer.plan
    trainer.step(*batches[0])
    last = max(id.op for id in plan.formats)
    never = {TensorId(0, "activation_gradient"), TensorId(last, "activation_gradient")}
    assert set(stored) == set(plan.formats) - never
    for id, values in stored.items():
        assert all(is_on_grid(value, plan.formats[id]) for value in values), id


def test_evaluation_rounds_as_its_semantics_says(make, batches, monkeypatch):
    seen = []
    original = Rounder.__call__
    monkeypatch.setattr(Rounder, "__call__", lambda self, id, value: seen.append(id.role) or original(self, id, value))
    for semantics, roles in (("standard", {"activation", "parameter"}), ("lee2023", {"activation"})):
        seen.clear()
        make("uniform_low", semantics).evaluate(batches[0])
        assert set(seen) == roles


def test_evaluation_changes_nothing_and_does_not_depend_on_the_batch(make, batches):
    trainer = make("uniform_low")
    trainer.step(*batches[0])
    state = {name: array.tobytes() for name, array in trainer.model.state().items()}
    images = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    whole = trainer.evaluate((images, labels))
    assert trainer.evaluate((images, labels), batch=17).accuracy == whole.accuracy
    assert trainer.evaluate(batches).accuracy == whole.accuracy and whole.images == len(labels)
    assert {name: array.tobytes() for name, array in trainer.model.state().items()} == state
    assert all(p.value is p.master for p in trainer.model.parameters().values())


def test_float32_evaluation_is_that_of_an_unrounded_model(make, batches):
    rounded, plain = make("uniform_low"), make()
    assert rounded.evaluate(batches, "float32") == plain.evaluate(batches)
    assert rounded.evaluate(batches) != plain.evaluate(batches)


def test_logits_with_nan_are_wrong(make, batches):
    trainer = make()
    trainer.model.linear.bias.replace(np.full(10, np.nan, np.float32))
    assert trainer.evaluate(batches).accuracy == 0


def test_an_overflowing_gradient_skips_the_update_but_not_the_statistics(make, batches):
    trainer = make("uniform_low", loss_scale=LossScale(initial=2.0**100, growth_interval=2))
    before = trainer.model.state()
    report = trainer.step(*batches[0])
    after = trainer.model.state()
    assert report.skipped and report.loss_scale == 2.0**100 and trainer.loss_scale.scale == 2.0**99
    parameters = trainer.model.parameters()
    assert all(before[name].tobytes() == after[name].tobytes() for name in parameters)
    running = [name for name in after if name not in parameters]
    assert running and all(not np.array_equal(before[name], after[name]) for name in running)


def test_without_a_plan_nothing_is_rounded_or_scaled(make, batches):
    trainer = make()
    report = trainer.step(*batches[0])
    assert (report.loss_scale, report.low_share, report.overflow, report.promoted) == (1.0, 0.0, {}, ())
    same = make("float32")
    same.step(*batches[0])
    assert trainer.digest() == same.digest() and same.loss_scale.scale == 1.0


def test_promotion_cascades_and_never_takes_gradients(make, batches):
    """Formats whose largest number is 0.75: what overflows is promoted, and what it reveals a step later."""
    tiny = Levels.of("fp_6_9_0", "fp_2_1_3", "fp_5_2_0")
    trainer = make("largest_first", "standard", tiny, 1)
    share, plans = trainer.plan.low_share, []
    for batch in batches[:4]:
        plan = trainer.plan
        report = trainer.step(*batch)
        expected = {
            id
            for id, ratio in report.overflow.items()
            if ratio >= 0.01 and id.role in ("activation", "parameter") and plan.is_low(id)
        }
        assert set(report.promoted) == expected
        assert report.low_share == plan.low_share
        assert all(trainer.plan.formats[id] == FORMATS["fp_6_9_0"] for id in report.promoted)
        plans.append(report.promoted)
    assert plans[0] and any(plans[1:]), "no cascade"
    assert trainer.plan.low_share < share
    promoted = [id for ids in plans for id in ids]
    assert len(set(promoted)) == len(promoted)
    assert tuple(promoted) == trainer.plan.promoted


def test_no_promotion_if_not_wanted_and_promotion_in_skipped_steps(make, batches):
    tiny = Levels.of("fp_6_9_0", "fp_2_1_3", "fp_5_2_0")
    assert not make("uniform_low", levels=tiny, promotion=None).step(*batches[0]).promoted
    report = make("uniform_low", levels=tiny, loss_scale=LossScale(initial=2.0**100)).step(*batches[0])
    assert report.skipped and report.promoted


def test_an_epoch_reports_sums_and_means_and_moves_the_schedule(make, batches):
    trainer = make("uniform_low", optimizer=SGD(schedule=Constant()))
    epoch = trainer.train_epoch(batches[:3])
    assert (epoch.epoch, epoch.steps, trainer.epoch, trainer.steps) == (0, 3, 1, 3)
    twin = make("uniform_low")
    reports = [twin.step(*batch) for batch in batches[:3]]
    right = sum(
        int((np.argmax(r.logits, 1) == labels).sum()) for r, (_, labels) in zip(reports, batches[:3], strict=True)
    )
    assert epoch.accuracy == right / (3 * BATCH)
    assert epoch.loss == pytest.approx(sum(r.loss for r in reports) / 3)
    with pytest.raises(ValueError, match="at least one batch"):
        trainer.train_epoch([])


# -- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "images,labels,error,message",
    [
        (np.zeros((4, 1, 8, 8)), np.zeros(4, int), TypeError, "images must be float32, got float64"),
        (np.zeros((4, 1, 9, 8), np.float32), np.zeros(4, int), ValueError, r"\(N, 1, 8, 8\).*got \(4, 1, 9, 8\)"),
        (np.zeros((0, 1, 8, 8), np.float32), np.zeros(0, int), ValueError, "N >= 1"),
        (np.zeros((4, 1, 8, 8), np.float32), np.zeros(3, int), ValueError, r"labels of shape \(4,\), got \(3,\)"),
        (np.zeros((4, 1, 8, 8), np.float32), np.zeros(4), TypeError, "labels must be integers, got float64"),
        (
            np.zeros((4, 1, 8, 8), np.float32),
            np.array([0, 10, 1, 2]),
            ValueError,
            "in 0..9, got 0 to 10",
        ),
        (np.zeros((4, 1, 8, 8), np.float32), np.array([0, -1, 1, 2]), ValueError, "got -1 to 2"),
    ],
)
def test_batches_that_do_not_fit_change_nothing(images, labels, error, message, make):
    trainer = make("uniform_low")
    before = {name: array.tobytes() for name, array in trainer.model.state().items()}
    with pytest.raises(error, match=message):
        trainer.step(images, labels)
    assert trainer.steps == 0 and {name: array.tobytes() for name, array in trainer.model.state().items()} == before


def test_a_plan_for_another_model_or_semantics_is_refused():
    small = reference_models.build("small_cnn", width=0.25)
    other = trace(reference_models.build("small_cnn", width=0.5), batch=8)
    with pytest.raises(ValueError, match="width is 0.5 in the plan and 0.25 here"):
        Trainer(small, uniform(other, "low"), backend="reference")
    with pytest.raises(ValueError, match="'standard' in the plan and 'lee2023' here"):
        Trainer(small, uniform(trace(small, batch=8), "low"), semantics="lee2023", backend="reference")


def test_formats_that_cannot_be_trained_in_are_refused():
    small = reference_models.build("small_cnn", width=0.25)
    wide = Levels.of("float64", "float8_e4m3fn")
    with pytest.raises(ValueError, match="float32 cannot hold"):
        Trainer(small, uniform(trace(small, batch=8), "high", wide), backend="reference")
    named = Levels.of("bfloat16", "float8_e4m3fnuz")
    with pytest.raises(ValueError, match="rounds like QPyTorch"):
        Trainer(small, demote(trace(small, 8, "lee2023"), 0.5, levels=named), semantics="lee2023", backend="reference")


def test_settings_that_do_not_fit_are_refused():
    small = reference_models.build("small_cnn", width=0.25)
    with pytest.raises(ValueError, match="promotion"):
        Trainer(small, promotion=0.0, backend="reference")
    with pytest.raises(ValueError, match="unknown semantics 'standart'; did you mean standard"):
        Trainer(small, semantics="standart", backend="reference")
    with pytest.raises(ValueError, match="unknown backend"):
        Trainer(small, backend="compiler")
    with pytest.raises(ValueError, match="unknown precision 'float16'; did you mean float32"):
        Trainer(small, backend="reference").evaluate([], "float16")


def test_no_digest_without_a_promise_of_bits(make, batches):
    trainer = make(accumulator=Accumulator(kind="blas"))
    trainer.step(*batches[0])
    with pytest.raises(ValueError, match="promises no bits"):
        trainer.digest()


def test_a_store_refuses_a_tensor_that_its_plan_does_not_know():
    small = reference_models.build("small_cnn", width=0.25)
    plan = uniform(trace(small, batch=8), "low")
    store = Rounder(plan.formats, kernels.bind("reference"), {})
    with pytest.raises(ValueError, match="another model"):
        store(TensorId(999, "activation"), np.zeros(1, np.float32))
    assert PAPER_LEVELS.low["activation"].largest == 30
