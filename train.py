"""Train a zero-shot classifier: python train.py CONFIG.yaml [--key value ...], or through accelerate launch."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import set_seed

from zeroshot.console import run_command
from zeroshot.evaluation import compute_metrics, evaluate_model
from zeroshot.evaluation.reports import describe_run
from zeroshot.training import ZeroShotTrainer, build_training_dataset, copy_backbones, parse_arguments, prepare_data
from zeroshot.training.records import record_run
from zeroshot.training.runs import begin_run, build_model, find_run, finish_training, load_finished
from zeroshot.training.soups import average_members, iterate_members


def main(arguments: Sequence[str], member: Mapping[str, Any] | None = None, start_seed: int | None = None) -> None:
    """Parse, prepare, train, save, report; a soup trains its members in between.

    Args:
        arguments: The words of the command line.
        member: What a member of a soup sets over them.
        start_seed: Of the recipe, for its members: they begin from one model and draw the same rows.
    """
    model_arguments, data_arguments, training_arguments = parse_arguments(arguments, member)
    seed = training_arguments.seed if start_seed is None else start_seed
    set_seed(seed)
    output_dir = Path(training_arguments.output_dir)
    run = find_run(model_arguments, data_arguments, training_arguments)
    model = build_model(model_arguments, training_arguments).to(training_arguments.device)
    data = prepare_data(data_arguments, seed, output_dir / "rejected_rows.jsonl")
    initial = copy_backbones(model)
    before = evaluate_model(model, data.zero_shot) if data.zero_shot and not member else None
    trainer = ZeroShotTrainer(
        model,
        training_arguments,
        train_dataset=build_training_dataset(data, data_arguments, training_arguments.seed),
        # Without validation rows the unseen labels may be watched; the trainer refuses to choose a checkpoint by them.
        eval_dataset=data.validation or (None if training_arguments.load_best_model_at_end else data.zero_shot) or None,
        compute_metrics=compute_metrics,
    )
    if run.finished:
        load_finished(model, output_dir)
    else:
        begin_run(run, model_arguments, data_arguments, training_arguments)
        if training_arguments.soup:
            for one in iterate_members(data_arguments, training_arguments):
                main(arguments, one, seed)
            average_members(model, data_arguments, training_arguments)
        else:
            trainer.train(resume_from_checkpoint=run.checkpoint)
        finish_training(trainer, initial, data.validation.values())
        record_run(trainer, model_arguments, data_arguments, data, resumed=run.checkpoint is not None)
    if trainer.is_world_process_zero() and not member:
        after = evaluate_model(trainer.model, data.zero_shot) if data.zero_shot else None
        examples = trainer.model.predict(data_arguments.example_texts, data_arguments.example_labels)
        sys.stdout.write(describe_run(output_dir, before, after, examples, data.train_labels) + "\n")
        if training_arguments.push_to_hub:
            sys.stdout.write(f"\n{trainer.push_to_hub()}\n")


if __name__ == "__main__":
    run_command(main, sys.argv[1:])
