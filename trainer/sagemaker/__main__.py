"""`outstep sagemaker train|deploy`: starts a training job on SageMaker, or an endpoint with what it trained.

    outstep sagemaker train image=… role=… output=s3://… -- +experiment=snoopy_sac seed=3
    outstep sagemaker deploy job=outstep-2026-01-31-12-00-00

What follows `--` are overrides of `outstep train`: the job's hyperparameters. They are composed here first, so that
a mistake is refused before a machine is paid for. Needs boto3 (`pip install 'outstep[sagemaker]'`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from secrets import token_hex
from typing import Any

from envs.process.output import keep_output
from envs.spec import UserError
from trainer.config.command import run_command
from trainer.config.compose import compose
from trainer.config.errors import one_line
from trainer.config.help import about
from trainer.config.schema import DeployConfig, LaunchConfig, TrainConfig
from trainer.container.__main__ import METRICS, check_hyperparameters
from trainer.container.machines import TOKEN


def main(argv: Sequence[str] | None = None) -> int:
    """Starts a training job on SageMaker, or an endpoint with what it trained."""
    keep_output()
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] != ["train"] and words[:1] != ["deploy"] and (shown := about(words, str(__doc__))):
        print(shown)
        return 0
    command, own = words[:1], words[1:]
    if command == ["train"]:
        end = own.index("--") if "--" in own else len(own)
        training = own[end + 1 :]
        check, launch = partial(_check, training), partial(_launch, training)
        return run_command(own[:end], LaunchConfig, "sagemaker_train", check, launch)
    if command == ["deploy"]:
        return run_command(own, DeployConfig, "sagemaker_deploy", lambda config: None, _deploy)
    seen = f"not {command[0]}; " if command else ""
    print(f"error: give train or deploy, {seen}train --help and deploy --help list the settings", file=sys.stderr)
    return 2


def _check(training: Sequence[str], config: LaunchConfig) -> None:
    places = {"output": config.output, "checkpoints": config.checkpoints}
    places |= {f"channels.{name}": place for name, place in config.channels.items()}
    for key, place in places.items():
        if place is not None and not str(place).startswith("s3://"):
            raise UserError(f"{key}={place} must be an address in S3: s3://bucket/folder")
    check_hyperparameters(_hyperparameters(training))
    compose(training, TrainConfig, "config")


def _hyperparameters(training: Sequence[str]) -> dict[str, str]:
    """Returns values by dotted name, from which the container makes overrides again."""
    return {key.lstrip("+"): value for key, _, value in (word.partition("=") for word in training)}


def _launch(training: Sequence[str], config: LaunchConfig) -> int:
    name = config.name or f"outstep-{datetime.now():%Y-%m-%d-%H-%M-%S}"
    output = config.output.rstrip("/")
    checkpoints = config.checkpoints or f"{output}/{name}/checkpoints"
    seconds = math.ceil(3600 * config.hours)
    stop = {"MaxRuntimeInSeconds": seconds}
    if config.spot:
        stop["MaxWaitTimeInSeconds"] = seconds + math.ceil(3600 * config.wait_hours)
    request: dict[str, Any] = {
        "TrainingJobName": name,
        "RoleArn": config.role,
        "AlgorithmSpecification": {
            "TrainingImage": config.image,
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": metric, "Regex": regex} for metric, regex in METRICS.items()],
        },
        "HyperParameters": _hyperparameters(training),
        "OutputDataConfig": {"S3OutputPath": output},
        "ResourceConfig": {
            "InstanceType": config.instance,
            "InstanceCount": config.machines,
            "VolumeSizeInGB": config.volume_gib,
        },
        "StoppingCondition": stop,
        "EnableManagedSpotTraining": config.spot,
        "CheckpointConfig": {"S3Uri": checkpoints, "LocalPath": "/opt/ml/checkpoints"},
    }
    if config.machines > 1:
        request["Environment"] = {TOKEN: token_hex(32)}
    if config.channels:  # SageMaker refuses an empty list
        request["InputDataConfig"] = [_channel(channel, str(place)) for channel, place in config.channels.items()]
    _ask(config.region, lambda client: client.create_training_job(**request))
    print(f"{name} begins; checkpoints go to {checkpoints}. Once it has ended:")
    print(f"outstep sagemaker deploy job={name}")
    return 0


def _channel(name: str, place: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": place, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def _deploy(config: DeployConfig) -> int:
    name = config.name or config.job

    def create(client: Any) -> None:
        job = client.describe_training_job(TrainingJobName=config.job)
        if (status := job["TrainingJobStatus"]) not in ("Completed", "Stopped"):
            raise UserError(f"job={config.job} is {status}: only one that is Completed or Stopped has a model")
        client.create_model(
            ModelName=name,
            PrimaryContainer={
                "Image": job["AlgorithmSpecification"]["TrainingImage"],
                "ModelDataUrl": job["ModelArtifacts"]["S3ModelArtifacts"],
            },
            ExecutionRoleArn=job["RoleArn"],
        )
        variant = {
            "VariantName": "AllTraffic",
            "ModelName": name,
            "InstanceType": config.instance,
            "InitialInstanceCount": 1,
        }
        client.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
        client.create_endpoint(EndpointName=name, EndpointConfigName=name)

    _ask(config.region, create)
    print(f"the endpoint {name} comes up, in some minutes, and costs money until it is deleted. Ask it by:")
    print(
        f"aws sagemaker-runtime invoke-endpoint --endpoint-name {name} --content-type application/json "
        "--cli-binary-format raw-in-base64-out --body '{\"observations\": [[…]]}' reply.json"
    )
    return 0


def _ask(region: str | None, ask: Callable[[Any], object]) -> None:
    """Lets `ask` talk to SageMaker; UserError if boto3 is missing, or SageMaker cannot be reached or refuses."""
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise UserError(f"boto3 is missing ({error}): pip install 'outstep[sagemaker]'") from error
    try:
        ask(boto3.client("sagemaker", region_name=region))
    except (BotoCoreError, ClientError) as error:
        raise UserError(one_line(error)) from error


if __name__ == "__main__":
    sys.exit(main())
