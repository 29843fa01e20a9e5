"""What SageMaker is asked for, against the shapes that botocore knows; nothing leaves this machine."""

from __future__ import annotations

import sys

import boto3
import pytest
from botocore.stub import ANY, Stubber

from trainer.container.__main__ import METRICS
from trainer.sagemaker.__main__ import main

IMAGE, ROLE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/outstep:latest", "arn:aws:iam::123456789012:role/trains"
WHERE = [f"image={IMAGE}", f"role={ROLE}", "output=s3://bucket/outstep/"]
BASIC = ["--", "+experiment=basic_ppo"]
JOB = {
    "TrainingJobName": "snoopy",
    "RoleArn": ROLE,
    "AlgorithmSpecification": {
        "TrainingImage": IMAGE,
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": name, "Regex": regex} for name, regex in METRICS.items()],
    },
    "HyperParameters": {"experiment": "snoopy_sac", "algorithm.learning_rate": "5e-4"},
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/outstep"},
    "ResourceConfig": {"InstanceType": "ml.c5.4xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
    "StoppingCondition": {"MaxRuntimeInSeconds": 5400},
    "EnableManagedSpotTraining": False,
    "CheckpointConfig": {"S3Uri": "s3://bucket/outstep/snoopy/checkpoints", "LocalPath": "/opt/ml/checkpoints"},
}


def arn(kind: str) -> str:
    return f"arn:aws:sagemaker:eu-west-1:123456789012:{kind}/snoopy"


@pytest.fixture
def sagemaker(monkeypatch):
    """A client that answers what it was told to expect, in order, and nothing else."""
    client = boto3.client("sagemaker", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
    monkeypatch.setattr(boto3, "client", lambda service, region_name: client)
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def test_a_job_is_asked_for_with_hyperparameters_by_dotted_names(sagemaker, capsys):
    sagemaker.add_response("create_training_job", {"TrainingJobArn": arn("training-job")}, JOB)
    words = ["--", "+experiment=snoopy_sac", "algorithm.learning_rate=5e-4"]
    assert main(["train", *WHERE, "name=snoopy", "hours=1.5", *words]) == 0
    assert "outstep sagemaker deploy job=snoopy" in capsys.readouterr().out


def test_a_job_on_spare_machines_may_wait_and_takes_channels_and_earlier_checkpoints(sagemaker):
    game = {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/builds", "S3DataDistributionType": "FullyReplicated"}
    expected = JOB | {
        "TrainingJobName": ANY,
        "HyperParameters": {"env": "unity"},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 3 * 3600},
        "EnableManagedSpotTraining": True,
        "CheckpointConfig": {"S3Uri": "s3://bucket/before", "LocalPath": "/opt/ml/checkpoints"},
        "InputDataConfig": [{"ChannelName": "game", "DataSource": {"S3DataSource": game}}],
    }
    sagemaker.add_response("create_training_job", {"TrainingJobArn": arn("training-job")}, expected)
    own = ["spot=true", "hours=1", "wait_hours=2", "channels.game=s3://bucket/builds", "checkpoints=s3://bucket/before"]
    assert main(["train", *WHERE, *own, "--", "env=unity"]) == 0


def test_several_machines_share_a_secret_that_is_drawn_for_the_job(sagemaker, monkeypatch):
    monkeypatch.setattr("trainer.sagemaker.__main__.token_hex", lambda size: "s" * 2 * size)
    expected = JOB | {
        "HyperParameters": {"experiment": "basic_ppo"},
        "ResourceConfig": JOB["ResourceConfig"] | {"InstanceCount": 4},
        "StoppingCondition": {"MaxRuntimeInSeconds": 86400},
        "Environment": {"RAY_AUTH_TOKEN": "s" * 64},
    }
    sagemaker.add_response("create_training_job", {"TrainingJobArn": arn("training-job")}, expected)
    assert main(["train", *WHERE, "name=snoopy", "machines=4", *BASIC]) == 0


def job(status: str) -> dict:
    """What SageMaker tells of a job, as far as it has to."""
    return {
        "TrainingJobName": "snoopy",
        "TrainingJobArn": arn("training-job"),
        "TrainingJobStatus": status,
        "SecondaryStatus": status,
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "ModelArtifacts": {"S3ModelArtifacts": "s3://bucket/outstep/snoopy/output/model.tar.gz"},
        "ResourceConfig": JOB["ResourceConfig"],
        "StoppingCondition": JOB["StoppingCondition"],
        "CreationTime": 0,
        "RoleArn": ROLE,
    }


def test_an_endpoint_serves_what_a_job_has_trained(sagemaker):
    sagemaker.add_response("describe_training_job", job("Completed"), {"TrainingJobName": "snoopy"})
    container = {"Image": IMAGE, "ModelDataUrl": "s3://bucket/outstep/snoopy/output/model.tar.gz"}
    model = {"ModelName": "plays", "PrimaryContainer": container, "ExecutionRoleArn": ROLE}
    sagemaker.add_response("create_model", {"ModelArn": arn("model")}, model)
    variant = {"VariantName": "AllTraffic", "ModelName": "plays", "InstanceType": "ml.m5.large"}
    variants = [variant | {"InitialInstanceCount": 1}]
    sagemaker.add_response(
        "create_endpoint_config",
        {"EndpointConfigArn": arn("endpoint-config")},
        {"EndpointConfigName": "plays", "ProductionVariants": variants},
    )
    sagemaker.add_response(
        "create_endpoint",
        {"EndpointArn": arn("endpoint")},
        {"EndpointName": "plays", "EndpointConfigName": "plays"},
    )
    assert main(["deploy", "job=snoopy", "name=plays", "instance=ml.m5.large"]) == 0


def test_a_job_that_goes_on_has_no_model_to_serve(sagemaker, capsys):
    sagemaker.add_response("describe_training_job", job("InProgress"))
    assert main(["deploy", "job=snoopy"]) == 2
    assert capsys.readouterr().err.startswith("error: job=snoopy is InProgress: only one that is Completed or Stopped")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give train or deploy"),
        (["train", *WHERE[1:], *BASIC], "image is missing"),
        (["train", *WHERE, "spott=true", *BASIC], "unknown key spott; did you mean spot?"),
        (["train", *WHERE, "hours=0", *BASIC], "hours=0.0 must be above 0"),
        (["train", *WHERE, "channels.game=builds", *BASIC], "channels.game=builds must be an address in S3"),
        (["train", *WHERE, *BASIC, "algorithm.learnin_rate=1"], "unknown key algorithm.learnin_rate; did you mean"),
        (["train", *WHERE, *BASIC, "resume=runs/a"], "resume is not for a managed container"),
        (["train", *WHERE], "env.id is missing"),
        (["deploy"], "job is missing"),
    ],
)
def test_slips_are_refused_before_anything_is_asked_for(sagemaker, capsys, words, message):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_what_sagemaker_refuses_is_one_message(sagemaker, capsys):
    sagemaker.add_client_error("create_training_job", "ResourceLimitExceeded", "the account may have 0 of these")
    assert main(["train", *WHERE, *BASIC]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: An error occurred (ResourceLimitExceeded)")
    assert error.endswith("the account may have 0 of these\n")


def test_without_boto3_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert main(["train", *WHERE, *BASIC]) == 2
    assert "pip install 'outstep[sagemaker]'" in capsys.readouterr().err
