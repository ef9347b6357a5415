"""Training, evaluation, prediction and files on a device."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
from builds import quick_builds

import clnn
from clnn import models, nn, ops, optim
from clnn.data import ArrayDataset, DataLoader, digits
from clnn.errors import ArgumentError, DataError, FileError, NumericsError, ShapeError
from clnn.train import History, Trainer


@pytest.fixture(scope="module", autouse=True)
def built_quickly(device):
    """Here it counts what is run and when; ``test_cli_train`` and ``test_thesis`` train with optimised kernels."""
    with quick_builds(device.facts):
        yield


@pytest.fixture(scope="module")
def train():
    return digits("train")


@pytest.fixture(scope="module")
def test():
    return digits("test")


@pytest.fixture
def small():
    """150 images of 3 classes that are easy to tell apart; not a multiple of the batch sizes used here."""
    return blobs(150)


def blobs(count: int, seed: int = 0) -> ArrayDataset:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    bright = labels[:, None, None, None] == np.arange(3).repeat(2)[None, None, :, None]
    images = rng.integers(0, 120, (count, 1, 6, 6)) + 60 * bright
    return ArrayDataset(images.astype(np.uint8), labels, name="blobs")


def network(seed: int = 1, **options) -> nn.Module:
    return models.mlp(36, 16, 3, seed=seed, **options)


def trainer(device, model=None, lr=0.05, **options) -> Trainer:
    return Trainer(model or network(), optimizer=optim.SGD(lr=lr, momentum=0.9), device=device, **options)


def fit(t: Trainer, data, **options) -> History:
    return t.fit(data, **({"batch_size": 32, "progress": False} | options))


def same(a: Trainer, b: Trainer) -> bool:
    """Whether two trainers hold the same bits."""
    left, right = a.model.state_dict(), b.model.state_dict()
    slots = [[s.array for p in t.model.parameters() for s in t.optimizer.state_of(p).values()] for t in (a, b)]
    return all(np.array_equal(left[key], right[key]) for key in left) and all(map(np.array_equal, *slots))


# -- learning -----------------------------------------------------------------------------------------------------------

def test_learns_digits(device, train, test, tmp_path):
    t = Trainer(models.mlp(64, 32, 10, seed=1), optimizer=optim.SGD(lr=0.1, momentum=0.9), device=device)
    history = t.fit(train, test, epochs=4, batch_size=50, progress=False)
    assert [e["epoch"] for e in history.epochs] == [1, 2, 3, 4]
    assert t.evaluate(test)["accuracy"] == history.epochs[-1]["validation_accuracy"] > 0.9
    assert t.evaluate(test)["count"] == len(test)
    assert history.epochs[-1]["loss"] < history.epochs[0]["loss"]
    assert all(e["images_per_second"] > 0 for e in history.epochs)
    assert history.steps[-1]["step"] == t.step == 4 * 29
    assert t.classes == [str(i) for i in range(10)]
    assert "launches" in t.plan_summary()
    history.plot(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_learns_with_convolutions_adam_and_augmentation(device):
    data = digits("train", size=14).subset(range(600))
    t = Trainer(models.lenet5(10, 1, 14, seed=2), optimizer=optim.Adam(lr=3e-3), device=device)
    history = t.fit(data, epochs=6, batch_size=50, augment={"crop": 1}, progress=False)
    assert history.epochs[-1]["accuracy"] > 0.75


def own_loss(scores, labels):
    return ops.cross_entropy(scores, labels)


@pytest.mark.parametrize("loss", ["mse", "binary_cross_entropy_with_logits", own_loss])
def test_learns_with_other_losses(device, small, loss):
    t = Trainer(network(), loss, optim.SGD(lr=0.1, momentum=0.9), device)
    fit(t, small, epochs=6)
    assert t.evaluate(small)["accuracy"] > 0.9
    assert t.predict(small.images).shape == (150, 3)


def test_two_runs_with_one_seed_agree_in_every_bit(device, small):
    runs = [trainer(device, seed=7), trainer(device, seed=7), trainer(device, seed=8)]
    histories = [fit(t, small, epochs=2, augment="crop-flip") for t in runs]
    assert same(runs[0], runs[1])
    assert histories[0].steps == histories[1].steps
    assert not same(runs[0], runs[2])


def test_loss_of_the_first_step_and_accuracy_are_those_of_numpy(device, small):
    t = trainer(device)
    weights = t.model.state_dict()
    history = fit(t, small, batch_size=150, shuffle=False)
    x = small.normalise(small.images).reshape(150, -1).astype(np.float64)
    logits = np.maximum(x @ weights["1.weight"].T + weights["1.bias"], 0) @ weights["3.weight"].T + weights["3.bias"]
    logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert history.epochs[0]["loss"] == pytest.approx(-logp[np.arange(150), small.labels].mean(), rel=1e-5)
    assert history.epochs[0]["accuracy"] == pytest.approx((logits.argmax(1) == small.labels).mean())


def test_the_smaller_last_batch_is_trained_on(device, small):
    t = trainer(device)
    history = fit(t, small, batch_size=64)
    assert t.step == 3
    whole, part = trainer(device), small.subset(clnn.data.epoch_permutation(150, 0, 0)[:128])
    fit(whole, part, batch_size=64, shuffle=False)
    assert whole.step == 2
    assert not np.array_equal(whole.model.state_dict()["1.weight"], t.model.state_dict()["1.weight"])
    assert history.steps[-1]["epoch"] == 1.0


def test_the_schedule_is_followed(device, small):
    schedule = optim.schedules.Step(0.1, every=4, gamma=0.5)
    t = trainer(device, lr=schedule)
    seen = []

    def note(point):
        seen.append((point["step"], point["lr"], float(t._program.state.rate.array)))

    fit(t, small, epochs=2, log_every=1, on_log=note)
    assert [s for s, _, _ in seen] == list(range(1, 11))
    for step, lr, following in seen:
        assert lr == schedule(step - 1)
        if step % 5:
            assert following == pytest.approx(schedule(step))


def test_frozen_parameters_stay(device, small):
    t = trainer(device)
    t.model[1].requires_grad_(False)
    before = t.model.state_dict()
    fit(t, small)
    after = t.model.state_dict()
    assert np.array_equal(before["1.weight"], after["1.weight"]) and not np.array_equal(before["3.weight"], after["3.weight"])
    t.model.requires_grad_(False)
    with pytest.raises(ArgumentError, match="nothing to train"):
        fit(t, small)


def test_evaluation_leaves_training_untouched(device, small):
    def model():
        with nn.seeded(3):
            return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))

    one, other = trainer(device, model()), trainer(device, model())
    fit(one, small, epochs=2)
    fit(other, small, validation=blobs(40, 1), epochs=2)
    assert same(one, other)
    assert other.evaluate(small) == other.evaluate(small)
    assert other.model.training and int(other.model[2].num_batches_tracked.array) == 10


# -- other sources ------------------------------------------------------------------------------------------------------

def test_a_streamed_set_gives_the_same_bits_as_a_resident_one(device, small):
    resident, streamed = trainer(device, resident=True), trainer(device, resident=False)
    for t in (resident, streamed):
        fit(t, small, epochs=2, augment="crop-flip")
    assert same(resident, streamed)
    assert resident.evaluate(small) == streamed.evaluate(small)
    assert any(value.name == "images" for value in streamed.training_plan.inputs) and not resident.training_plan.inputs


def test_a_data_loader_trains(device, small):
    t = trainer(device)
    loader = DataLoader(small, 40, seed=4)
    history = t.fit(loader, DataLoader(blobs(50, 2), 20), epochs=6, progress=False)
    assert t.step == 24
    assert history.epochs[-1]["validation_accuracy"] > 0.9
    assert t.predict(small.images).argmax(1).tolist() == t.predict(small.images, batch_size=33).argmax(1).tolist()
    dropped = trainer(device)
    dropped.fit(DataLoader(small, 40, drop_last=True), progress=False)
    assert dropped.step == 3


def test_a_pair_of_arrays_is_a_set(device, small):
    t = trainer(device)
    fit(t, (small.images.astype(np.float32).reshape(150, 36), small.labels), epochs=2)
    assert t.predict(small.images.astype(np.float64).reshape(150, 36)).shape == (150, 3)


# -- going on -----------------------------------------------------------------------------------------------------------

def stop_at(step: int):
    def on_log(point):
        if point["step"] == step:
            raise KeyboardInterrupt
    return on_log


@pytest.mark.parametrize("step, resident", [(3, True), (5, True), (7, True), (7, False), (10, False)])
def test_interrupted_and_resumed_equals_uninterrupted(device, small, tmp_path, step, resident):
    path = tmp_path / "run.safetensors"
    options = {"epochs": 2, "log_every": 2, "augment": {"flip": True}}
    whole = trainer(device, resident=resident)
    expected = fit(whole, small, **options)
    first = trainer(device, resident=resident)
    history = fit(first, small, checkpoint=path, **(options | {"log_every": 1}), on_log=stop_at(step))
    assert history.interrupted and history.checkpoint == str(path) and first.step == step
    second = trainer(device, network(seed=99), resident=resident)
    history = fit(second, small, checkpoint=path, resume=True, **options)
    assert same(whole, second) and second.step == 10 and second.epoch == 2
    assert not history.interrupted
    assert [e["loss"] for e in history.epochs] == pytest.approx([e["loss"] for e in expected.epochs])
    again = fit(trainer(device), small, resume=path, **options)
    assert again.epochs == history.epochs                   # nothing was left to do


def test_resuming_a_data_loader(device, small, tmp_path):
    whole, first, second = trainer(device), trainer(device), trainer(device)
    path = tmp_path / "run.safetensors"
    whole.fit(DataLoader(small, 32), epochs=2, progress=False)
    first.fit(DataLoader(small, 32), epochs=2, progress=False, checkpoint=path, log_every=1, on_log=stop_at(7))
    second.fit(DataLoader(small, 32), epochs=2, progress=False, resume=path)
    assert same(whole, second)


def test_resuming_needs_the_same_settings(device, small, tmp_path):
    path = tmp_path / "run.safetensors"
    fit(trainer(device), small, checkpoint=path, log_every=1, on_log=stop_at(2))
    with pytest.raises(ArgumentError, match="batch_size=16"):
        fit(trainer(device), small, resume=path, batch_size=16)
    with pytest.raises(ArgumentError, match="seed=3"):
        fit(trainer(device, seed=3), small, resume=path)
    with pytest.raises(ArgumentError, match="optimizer=Adam"):
        fit(Trainer(network(), optimizer=optim.Adam(), device=device), small, resume=path)
    with pytest.raises(FileError, match=r"model\.1\.weight"):
        fit(trainer(device, models.mlp(36, 17, 3)), small, resume=path)
    with pytest.raises(FileError, match="no such file"):
        fit(trainer(device), small, resume=tmp_path / "missing.safetensors")
    with pytest.raises(ArgumentError, match="needs the checkpoint"):
        fit(trainer(device), small, resume=True)


def test_resume_starts_afresh_without_a_checkpoint(device, small, tmp_path):
    t, plain = trainer(device), trainer(device)
    fit(t, small, checkpoint=tmp_path / "a.safetensors", resume=True)
    fit(plain, small)
    assert same(t, plain)


def test_fit_goes_on_where_the_last_fit_ended(device, small):
    whole, parts = trainer(device), trainer(device)
    fit(whole, small, epochs=2)
    fit(parts, small)
    fit(parts, small)
    assert same(whole, parts) and parts.epoch == 2


def test_control_c_ends_the_run_after_a_step(device, small, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    t = trainer(device)
    history = t.fit(small, epochs=50, batch_size=32, log_every=1,
                    on_log=lambda point: signal.raise_signal(signal.SIGINT) if point["step"] == 13 else None)
    assert history.interrupted and t.step == 13
    assert (tmp_path / "clnn-interrupted.safetensors").exists()
    assert "clnn-interrupted.safetensors" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_control_c_ends_it_at_once(device, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    t = trainer(device)

    def twice(point):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(t, small, on_log=twice)
    assert t.step == 0 and not list(tmp_path.iterdir())
    assert all(np.array_equal(a, b) for a, b in zip(t.model.state_dict().values(), network().state_dict().values(), strict=True))


def test_checkpoints_every_so_many_steps(device, small, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr("clnn.train.trainer.write_checkpoint", lambda path, arrays, d: written.append(d["position"]["step"]))
    fit(trainer(device), small, epochs=3, checkpoint=tmp_path / "x", checkpoint_every=4)
    assert written == [4, 8, 12, 15]
    written.clear()
    fit(trainer(device), small, epochs=3, checkpoint=tmp_path / "x")
    assert written == [5, 10, 15]


# -- what goes wrong ----------------------------------------------------------------------------------------------------

def test_divergence_names_the_layer_and_restores_the_model(device, small, tmp_path):
    schedule = optim.schedules.MultiStep(0.05, (7,), gamma=1e36)
    t, good = trainer(device, lr=schedule), trainer(device, lr=schedule)
    path = tmp_path / "run.safetensors"
    with pytest.raises(NumericsError) as caught:
        fit(t, small, epochs=4, checkpoint=path)
    text = str(caught.value)
    assert text.startswith(("1 (", "3 ("))
    assert "step 8" in text or "step 9" in text
    assert "learning rate 5e+34" in text
    assert "smaller learning rate" in text
    fit(good, small, epochs=1)
    assert same(t, good) and t.step == 5 and t.epoch == 1
    assert same(Trainer.load(path, device=device), good)


def test_divergence_in_the_middle_of_an_epoch_goes_back_to_the_checkpoint(device, small, tmp_path):
    t = trainer(device, lr=optim.schedules.MultiStep(0.05, (8,), gamma=1e38))
    with pytest.raises(NumericsError, match="after step 7"):
        fit(t, small, epochs=4, checkpoint=tmp_path / "run.safetensors", checkpoint_every=7)
    assert t.step == 7
    assert all(np.isfinite(array).all() for array in t.model.state_dict().values())


def test_nan_in_the_data_is_named(device, small):
    class Broken:
        name, sample_shape, num_classes = "broken", (1, 6, 6), 3

        def __len__(self):
            return 150

        def __getitem__(self, index):
            return small[index]

        def normalise(self, images):
            x = small.normalise(images)
            x[3, 0, 2, 2] = np.nan
            return x

    with pytest.raises(DataError, match="the data itself is not finite") as caught:
        trainer(device).fit(DataLoader(Broken(), 32), progress=False)
    assert "first image 3 of the batch" in str(caught.value) and "step 1," in str(caught.value)


def test_labels_shapes_and_batches_are_checked_before_training(device, small):
    with pytest.raises(DataError, match=r"label 2 .* the model has 2 outputs"):
        fit(trainer(device, models.mlp(36, 2)), small)
    with pytest.raises(DataError, match="the batch is larger"):
        fit(trainer(device), small, batch_size=151)
    with pytest.raises(ArgumentError, match="not a batch size"):
        fit(trainer(device), small, batch_size=0)
    with pytest.raises(ShapeError, match=r"^1 \(Linear\)"):
        fit(trainer(device, models.mlp(35, 3)), small)
    with pytest.raises(ShapeError, match="one row of class scores"):
        fit(trainer(device, nn.Sequential(nn.Conv2d(1, 3, 3))), small)
    with pytest.raises(ArgumentError, match="unknown augmentation"):
        fit(trainer(device), small, augment="rotate")
    with pytest.raises(ArgumentError, match="not a data set"):
        fit(trainer(device), [1, 2])
    with pytest.raises(ShapeError, match="last batch of an epoch has 1 image"):
        fit(trainer(device, nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.BatchNorm1d(3))), small, batch_size=149)


def test_a_loader_with_a_wrong_label(device, small):
    class Wrong:
        name, sample_shape, num_classes, normalise = "wrong", (1, 6, 6), 3, small.normalise

        def __len__(self):
            return 150

        def __getitem__(self, index):
            images, labels = small[index]
            return images, labels + 1

    with pytest.raises(DataError, match="label 3"):
        trainer(device).fit(DataLoader(Wrong(), 32), progress=False)


def test_arguments_of_the_trainer(device):
    with pytest.raises(ArgumentError, match="takes a module"):
        Trainer(lambda x: x, device=device)
    with pytest.raises(ArgumentError, match="unknown loss"):
        Trainer(network(), loss="hinge", device=device)
    with pytest.raises(ArgumentError, match="not an optimiser"):
        Trainer(network(), optimizer="sgd", device=device)
    with pytest.raises(ArgumentError, match="not a seed"):
        Trainer(network(), seed=-1, device=device)
    with pytest.raises(ArgumentError, match="no plan yet"):
        trainer(device).plan_summary()


# -- files and prediction -----------------------------------------------------------------------------------------------

def test_save_and_load(device, small, tmp_path):
    t = trainer(device)
    fit(t, small, epochs=2)
    t.save(tmp_path / "model.safetensors")
    back = Trainer.load(tmp_path / "model.safetensors", device=device)
    assert same(t, back)
    assert (back.classes, back.mean, back.std, back.epoch, back.step) == (t.classes, t.mean, t.std, 2, 10)
    assert back.optimizer.config() == t.optimizer.config() and back.history.epochs == t.history.epochs
    assert np.array_equal(t.predict(small.images), back.predict(small.images))
    assert back.evaluate(small) == t.evaluate(small)
    fit(t, small)
    fit(back, small)
    assert same(t, back)


def test_models_without_recipe_and_losses_without_name(device, small, tmp_path):
    def build():
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 3))

    path = tmp_path / "model.safetensors"
    t = trainer(device, build())
    t.save(path)
    with pytest.raises(FileError, match=r"Trainer.load\(path, model=…\)"):
        Trainer.load(path, device=device)
    assert same(t, Trainer.load(path, model=build(), device=device))
    with pytest.raises(FileError, match="does not fit"):
        Trainer.load(path, model=network(), device=device)
    Trainer(build(), own_loss, device=device).save(path)
    with pytest.raises(FileError, match=r"loss=…"):
        Trainer.load(path, model=build(), device=device)
    assert Trainer.load(path, model=build(), loss=own_loss, device=device).step == 0


def test_predict(device, small):
    t = trainer(device)
    fit(t, small, epochs=6)
    p = t.predict(small.images)
    assert p.dtype == np.float32 and p.shape == (150, 3)
    assert np.allclose(p.sum(1), 1, atol=1e-5)
    assert (p.argmax(1) == small.labels).mean() > 0.9
    assert np.allclose(p, t.predict(small.images / 255.0), atol=1e-5)
    assert np.allclose(p[:5], t.predict(small.images[:5]), atol=1e-6)
    assert t.predict(small.images[:0]).shape == (0, 3)
    t.model[3].bias.array[...] = [0, 1000, 0]
    assert (t.predict(small.images).argmax(1) == 1).all()   # changes of the host are seen
    with pytest.raises(ShapeError, match=r"x\[None\]"):
        t.predict(small.images[0])
    with pytest.raises(clnn.errors.DTypeError):
        t.predict(small.images.astype(np.int64))


def test_progress_lines(device, small, capsys):
    trainer(device).fit(small, blobs(40, 1), epochs=2, batch_size=32)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("building kernels for ")
    assert lines[1].startswith("epoch 1/2  loss ") and "validation loss" in lines[1] and "images/s" in lines[2]
    assert len(lines) == 3


def test_histories_travel_as_json(device, small):
    history = fit(trainer(device), small)
    back = History.from_json(json.dumps(json.loads(history.to_json())))
    assert back == history


def test_public_names():
    assert clnn.Trainer is Trainer and clnn.History is History
