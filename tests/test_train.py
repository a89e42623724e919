"""Laws of training: packed loss = mean over samples, a resumed run = one never stopped, batches by number."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import TINY as CONFIG
from torch.nn import functional as F

from clearsight.config import NANO, PRESETS, read_json
from clearsight.eval import score, wilson
from clearsight.model.hub import resolve
from clearsight.model.weights import load_model, random_model
from clearsight.processor import ImageSettings, Processor, Tokenizer
from clearsight.train import recipe
from clearsight.train.data import BatchStream, Mix, batches, casual, encode
from clearsight.train.errors import StateError
from clearsight.train.example import pack
from clearsight.train.grow import ENDS, grown
from clearsight.train.loop import next_token_loss, run_stage
from clearsight.train.optim import learning_rate, make_optimizers
from clearsight.train.place import add_place
from clearsight.train.sight import add_sight
from clearsight.train.stage import PARTS, Lora, Stage
from clearsight.train.worlds import draw

MIX = Mix(weights={"word": 0.5, "shapes": 0.5}, form="chat", level_start=0.2, ramp=4)


def stage(**changes):
    return Stage(name="s", mix=MIX, steps=changes.pop("steps", 1), **changes)


@pytest.fixture(scope="module")
def processor():
    return Processor(Tokenizer.packaged("nano"), CONFIG, ImageSettings())


@pytest.mark.parametrize("form", ["chat", "caption"])
def test_the_packed_loss_is_the_sum_over_supervised_tokens(processor, form):
    examples = [encode(draw("word", seed, "train", 0.5), processor, form) for seed in range(3)]
    batch = pack(examples)
    model = random_model(CONFIG)
    losses = []
    with torch.no_grad():
        for example in examples:
            logits = model.logits(model(example.inputs))
            targets = torch.where(example.supervised, example.inputs.ids, -100)
            losses.append(F.cross_entropy(logits[:-1], targets[1:], reduction="sum"))
        torch.testing.assert_close(next_token_loss(model, batch), sum(losses), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_balance_weighs_every_answer_by_its_length(processor, balance):
    examples = [encode(draw(world, 3, "train", 0.8, 4), processor, "chat") for world in ("shapes", "calls", "line")]
    batch, model = pack(examples), random_model(CONFIG)
    total = weight = 0.0
    with torch.no_grad():
        losses = F.cross_entropy(model.logits(model(batch.inputs))[:-1], batch.inputs.ids[1:], reduction="none")
    runs, inside = [], False
    for position, supervised in enumerate(batch.supervised.tolist()):
        if supervised and not inside:
            runs.append([])
        if supervised:
            runs[-1].append(position)
        inside = supervised
    assert len(runs) > 5
    for run in runs:
        weight += len(run) ** (1 - balance)
        total += sum(losses[position - 1].item() for position in run) * len(run) ** -balance
    with torch.no_grad():
        assert next_token_loss(model, batch, balance).item() == pytest.approx(total, rel=1e-4)
    assert batch.learned(balance)[0].item() == pytest.approx(weight, rel=1e-5)


def test_only_the_answer_is_supervised(processor):
    sample = draw("word", 3, "train")
    example = encode(sample, processor, "chat")
    assert processor.tokenizer.decode(example.inputs.ids[example.supervised].tolist(), skip_special=False) == (
        f"{sample.answer}<|im_end|>\n"
    )


def test_a_batch_is_a_function_of_its_number(processor):
    stream = BatchStream(processor, MIX, 3, seed=1)
    later = next(batches(stream, [5], workers=1))
    again = stream[5]
    assert torch.equal(later.inputs.ids, again.inputs.ids)
    assert torch.equal(later.inputs.vision.pixels, again.inputs.vision.pixels)
    assert not torch.equal(stream[4].inputs.ids[:50], again.inputs.ids[:50])


@pytest.mark.parametrize(("captions", "framed"), [(0.0, 12), (1.0, 0)])
def test_in_dialogue_words_may_come_as_pairs_and_scenes_never(processor, captions, framed):
    """A sample in the frame of a chat begins with its mark, a pair with its picture."""

    def chats(world):
        stream = BatchStream(processor, Mix(weights={world: 1.0}, form="chat", captions=captions), 12, seed=1)
        inputs = stream[0].inputs
        return sum(ids[0] == CONFIG.tokens.im_start for ids in inputs.ids.split(inputs.lengths))

    assert chats("word") == chats("line") == chats("scripts") == framed
    assert chats("shapes") == 12


def test_casual_questions_ask_the_same_and_nothing_else_changes():
    """Words of politeness aside, a casual question is the question without regard to capitals and marks."""
    rng = random.Random(3)
    polite = {"please", "hi", "hello", "can", "you", "help", "me", "ok", "so", "thanks", "thank"}
    plain = [draw(world, seed, "train", 1.0, 3) for world in ("shapes", "calls", "documents") for seed in range(40)]
    changed = 0
    for sample in plain:
        for before, after in zip(sample.messages, casual(sample.messages, rng), strict=True):
            if before.role != "user":
                assert after == before
                continue
            assert after.parts[:-1] == before.parts[:-1]
            old, new = (re.findall(r"[\w°-]+", part.text.lower()) for part in (before.parts[-1], after.parts[-1]))
            assert any(new[start : start + len(old)] == old for start in range(len(new)))
            assert set(new) <= set(old) | polite
            changed += after != before
    assert changed > 100


def test_the_stated_share_of_pictures_gets_one_question_alone(processor):
    """Whatever would come late in a dialogue comes first there."""
    share = {}
    for single in (0.0, 0.4, 1.0):
        mix = Mix(weights={"documents": 1.0}, form="chat", turns=6, single=single)
        stream = BatchStream(processor, mix, 1, seed=1)
        opening = processor.tokenizer.special_ids["<|im_start|>"]
        turns = [int((stream[number].inputs.ids == opening).sum()) for number in range(150)]
        share[single] = turns.count(3) / len(turns)  # system, user, assistant
    assert share[0.0] < 0.2
    assert abs(share[0.4] - (0.4 + 0.6 * share[0.0])) < 0.15
    assert share[1.0] == 1.0


@pytest.mark.parametrize("share", ["captions", "casual", "single"])
def test_a_share_is_from_nothing_to_all(share):
    for wrong in (1.5, -0.1):
        with pytest.raises(ValueError, match=f"{share} is {wrong}; it must be from 0 to 1"):
            Mix(weights={"word": 1.0}, form="chat", **{share: wrong})


def test_the_weight_of_sight_has_limits():
    with pytest.raises(ValueError, match="sight is -1; it must be from 0 to 1000"):
        Mix(weights={"word": 1.0}, form="chat", sight=-1)


def test_the_parts_of_a_batch_hold_its_samples(processor):
    whole, parts = BatchStream(processor, MIX, 5, seed=1), BatchStream(processor, MIX, 5, seed=1, parts=2)
    pieces = sorted(piece.tolist() for n in (6, 7) for piece in parts[n].inputs.ids.split(parts[n].inputs.lengths))
    assert pieces == sorted(piece.tolist() for piece in whole[3].inputs.ids.split(whole[3].inputs.lengths))


class Interrupted(Exception):
    pass


class FailingProcessor(Processor):
    """Stops the run, as a power cut would, when sample number `fail_at` is prepared."""

    fail_at = 0

    def prepare(self, *args, **kwargs):
        self.fail_at -= 1
        if self.fail_at < 0:
            raise Interrupted
        return super().prepare(*args, **kwargs)


def test_a_run_killed_and_resumed_equals_one_never_killed(processor, tmp_path):
    six = stage(steps=6, batch_size=2, warmup=2, checkpoint_every=2, log_every=1)
    whole = random_model(CONFIG).train()
    run_stage(whole, processor, six, tmp_path / "whole", workers=0)
    failing = FailingProcessor(processor.tokenizer, CONFIG, processor.image_settings)
    failing.fail_at = 9  # in the fifth batch, one step after a checkpoint
    with pytest.raises(Interrupted):
        run_stage(random_model(CONFIG).train(), failing, six, tmp_path / "cut", workers=0)
    resumed = random_model(CONFIG, seed=99).train()
    run_stage(resumed, processor, six, tmp_path / "cut", workers=0)
    state = resumed.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in whole.state_dict().items())


def test_training_learns_one_sample_by_heart(processor):
    batch, model = encode(draw("word", 1, "train", 0.0), processor, "chat"), random_model(CONFIG).train()
    optimizers = make_optimizers(model, stage())
    first = next_token_loss(model, batch).item()
    for _ in range(30):
        next_token_loss(model, batch).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    assert next_token_loss(model, batch).item() < 0.1 * first


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_every_parameter_has_one_optimizer(optimizer):
    model = random_model(CONFIG)
    held = [
        id(p)
        for o in make_optimizers(model, stage(optimizer=optimizer))
        for group in o.param_groups
        for p in group["params"]
    ]
    assert sorted(held) == sorted(id(p) for p in model.parameters())


def test_what_adapters_cannot_carry_may_be_left_alone(processor, tmp_path):
    """`linear_only`: after steps of either rule only weights of linear layers inside the halves have changed."""
    model = random_model(CONFIG).train()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    run_stage(model, processor, stage(steps=2, batch_size=4, linear_only=True), tmp_path, workers=0)
    changed = {name for name, value in model.named_parameters() if not value.equal(before[name])}
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert changed == linear - {"lm_head.weight"}
    with pytest.raises(ValueError, match="linear_only and lora exclude each other"):
        stage(linear_only=True, lora=Lora(rank=2, alpha=2))


def test_the_recipe_goes_back_to_earlier_stages_alone_and_leaves_linear_layers(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "recipes")
    import nano as recipe_of_nano

    names = [one.name for one in recipe_of_nano.stages()]
    assert len(set(names)) == len(names)
    small = recipe_of_nano.SHALLOW
    assert recipe_of_nano.GROWN in names
    assert small.vision.depth < NANO.vision.depth
    assert small.text.num_layers < NANO.text.num_layers
    means = recipe_of_nano.MEANS
    earlier = [(name, before) for name, taken in means.items() for before, _ in taken]
    # A mean that another is taken with has to have been kept.
    assert all(before.removesuffix("-mean") in means for _, before in earlier if before.endswith("-mean"))
    earlier = [(name, before.removesuffix("-mean")) for name, before in earlier]
    earlier += recipe_of_nano.RETURNS.items()
    assert all(names.index(before) < names.index(name) for name, before in earlier)
    old, new = random_model(CONFIG, seed=1), random_model(CONFIG, seed=2)
    linear = {f"{name}.weight" for name, module in new.named_modules() if isinstance(module, torch.nn.Linear)}
    kept = {name: value.detach().clone() for name, value in new.named_parameters() if name in linear}
    with torch.no_grad():
        for value in old.parameters():
            value.add_(1)  # norms and biases of random models are alike
    add_sight(old, seed=0)  # a stage's own checkpoint has its heads, too
    add_place(old)
    recipe_of_nano.keep(old, tmp_path / "old.pt")
    recipe_of_nano.mean_with(new, tmp_path / "old.pt", 1.0, linear=False)
    theirs = dict(old.named_parameters())
    for name, value in new.named_parameters():
        torch.testing.assert_close(value, kept[name] if name in linear else theirs[name])
    with pytest.raises(StateError, match=r"none\.pt is missing"):
        recipe_of_nano.mean_with(new, tmp_path / "none.pt", 1.0)


def test_a_grown_model_says_what_it_said_until_its_new_blocks_have_learned(processor):
    small = random_model(CONFIG, seed=1)
    with torch.no_grad():
        for value in small.parameters():
            value.add_(0.05)  # biases of random models are zero
    deeper = replace(CONFIG, vision=replace(CONFIG.vision, depth=4), text=replace(CONFIG.text, num_layers=3))
    large = grown(small, deeper)
    assert (len(large.visual.blocks), len(large.model.layers)) == (4, 3)
    batch = pack([encode(draw("shapes", 3, "train"), processor, "chat")])
    with torch.no_grad():
        torch.testing.assert_close(large(batch.inputs), small(batch.inputs))
    large.requires_grad_()
    next_token_loss(large, batch).backward()
    new = {name: value for name, value in large.named_parameters() if name not in dict(small.named_parameters())}
    learn = {name for name, value in new.items() if value.grad.any()}
    assert {name.rpartition(".")[0].split(".", 3)[-1] for name in learn} == set(ENDS)


def test_a_rehearsal_takes_a_small_step_of_every_stage_anew_and_leaves_the_long_run_alone(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "recipes")
    import nano as recipe_of_nano

    first, second = recipe_of_nano.stages()[:2]
    monkeypatch.setattr(recipe_of_nano, "stages", lambda: [first, second])
    monkeypatch.setattr(recipe_of_nano, "MEANS", {second.name: [(first.name, 0.5)]})
    monkeypatch.setattr("sys.argv", ["nano.py", "--out", str(tmp_path), "--rehearse"])
    out = tmp_path / "rehearsal"
    for _ in range(2):
        recipe_of_nano.main()
        steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        assert [(line["stage"], line["step"]) for line in steps] == [(first.name, 1), (second.name, 1)]
        load_model(out / "model", recipe_of_nano.SHALLOW)
        assert set(tmp_path.iterdir()) == {out}
        for file in out.glob("*.jsonl"):
            file.write_text("{}\n")  # what a rehearsal that went on from here would add to


def test_the_recipe_refuses_a_file_for_a_folder_and_a_rehearsal_of_one_stage(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "recipes")
    import nano as recipe_of_nano

    (tmp_path / "file").write_text("")
    for given, said in (
        (["--out", str(tmp_path / "file"), "--rehearse"], "file cannot be used as a folder"),
        (["--out", str(tmp_path), "--rehearse", "--only", "gather"], "not allowed with argument --rehearse"),
    ):
        monkeypatch.setattr("sys.argv", ["nano.py", *given])
        with pytest.raises(SystemExit) as ended:
            recipe_of_nano.main()
        assert ended.value.code == 2
        assert said in capsys.readouterr().err


def test_embeddings_that_are_alike_become_ones_of_their_own_but_for_those_kept(processor, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "recipes")
    import nano as recipe_of_nano

    assert set(recipe_of_nano.APART) <= {one.name for one in recipe_of_nano.stages()}
    model, again = random_model(CONFIG, seed=1), random_model(CONFIG, seed=1)
    for each in (model, again):
        rows = each.model.embed_tokens.weight
        with torch.no_grad():
            rows[:400] = 12 * rows.shape[1] ** -0.5 + 0.01 * rows[:400]
    before = rows.detach().clone()
    for each in (model, again):
        recipe_of_nano.tell_apart(each, processor)
    after = model.model.embed_tokens.weight.detach()
    assert after.equal(rows)
    kept = [processor.tokenizer.encode(sign)[0] for sign in "{_~"]
    assert max(kept) < 400
    changed = (after != before).any(1)
    assert changed[:400].sum() > 350
    assert not changed[400:].any()
    assert not changed[kept].any()
    unit = torch.nn.functional.normalize(after[changed])
    assert (unit @ unit.T - torch.eye(len(unit))).max() < 0.95
    recipe_of_nano.tell_apart(model, processor)
    assert after.equal(rows)  # whose rows nothing resembles now


def test_the_schedule_rises_stays_and_falls():
    shape = stage(steps=100, lr=1.0, warmup=10, decay=0.5)
    rates = [learning_rate(step, shape) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert rates[10:50] == [1.0] * 40
    assert rates[50:] == sorted(rates[50:], reverse=True)
    assert rates[-1] == pytest.approx(0.02)
    cosine = [learning_rate(step, replace(shape, schedule="cosine")) for step in range(100)]
    assert cosine[9:] == sorted(cosine[9:], reverse=True)
    assert cosine[55] == pytest.approx(0.5)


def test_wilson_interval_against_published_values():
    # Brown, Cai and DasGupta (2001) and any table: 0 of 10 gives 0 to 0.278, 5 of 10 gives 0.237 to 0.763.
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-3)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-3)
    assert score([1.0, 0.0]).accuracy == 0.5


def test_the_shipped_card_is_about_held_out_samples():
    card = read_json(resolve("nano") / "card.json")
    assert {"word", "line", "page", "count", "colour", "shape"} <= card["by_skill"].keys()
    assert all(values["samples"] >= 50 for values in card["by_skill"].values())


def test_the_three_stages_freeze_what_the_paper_freezes():
    pairs = replace(MIX, form="caption")
    stages = [make(CONFIG, pairs, 50) for make in (recipe.see, recipe.understand)] + [recipe.follow(CONFIG, MIX, 50)]
    frozen = [{part for part in PARTS if getattr(one.rates, part) == 0} for one in stages]
    assert frozen == [{"language"}, set(), {"vision"}]
    assert recipe.peak_rate(PRESETS["7b"]) < recipe.peak_rate(PRESETS["2b"]) < recipe.peak_rate(CONFIG)
    with pytest.raises(ValueError, match="follow"):
        recipe.follow(CONFIG, pairs, 50)
