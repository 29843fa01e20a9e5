"""Command lines that cannot be: exit status 2, one message with the key, the value seen and what would be right.

Nothing is started or lost: see the fixture `refused`.
"""

from __future__ import annotations

import socket

import pytest

from trainer.__main__ import main as train
from trainer.demos import __main__ as demos
from trainer.evaluate import __main__ as evaluate
from trainer.record import __main__ as record
from trainer.report import __main__ as report

GYM, UNITY, TOYS = "env.id=CartPole-v1", "env=unity env.player=env=basic", "env.id=tests.toys:"
SHORT = {"GYM": GYM, "UNITY": UNITY, "SAC": f"{GYM} algorithm=sac"}
"""What a table's rows begin with."""
CONFIG = [
    ("", "env.id is missing: give it, for example env.id=CartPole-v1"),
    ("+experiment=snoopy_sack", "unknown experiment 'snoopy_sack'; did you mean snoopy_sac? there is basic_ppo,"),
    ("experiment=snoopy_sac", "+experiment=snoopy_sac"),
    ("env=gim", "unknown env 'gim'; did you mean gym? there is basic, bubble_shooter, corridor, duel, factory"),
    ("algorithm=td3", "unknown algorithm 'td3'; there is custom, poca, ppo, sac"),
    ("reward=gail", "unknown reward 'gail'; there is extrinsic"),
    ("env=3", "env=3: a config group takes the name of one of its choices"),
    ("env=null", "env=null: a config group takes the name of one of its choices"),
    ("GYM evn.id=x", "unknown key evn; did you mean env?"),
    ("GYM env.instnces=3", "unknown key env.instnces; did you mean env.instances?"),
    ("GYM +env.instnces=3", "unknown key env.instnces; did you mean env.instances?"),
    ("GYM ++env.instnces=3", "unknown key env.instnces; did you mean env.instances?"),
    ("GYM +algorithm.lerning_rate=1", "unknown key algorithm.lerning_rate; did you mean algorithm.learning_rate?"),
    ("GYM +algorithm.network.hiden=[1]", "algorithm.network.hiden; did you mean algorithm.network.hidden?"),
    ("GYM +experimnt=snoopy_sac", "unknown key experimnt; did you mean experiment?"),
    ("GYM algorithm.batch_size=3", "unknown key algorithm.batch_size; here it is algorithm.minibatch_size"),
    ("GYM +xyz=3", "unknown key xyz; the configuration holds env, algorithm,"),
    ("GYM env.instances=abc", "env.instances=abc: expected an integer, not 'abc'"),
    ("GYM env.instances=1.5", "env.instances=1.5: expected an integer, not '1.5'"),
    ("GYM env.time_scale=fast", "env.time_scale=fast: expected a number"),
    ("GYM algorithm.network.normalize=7up", "algorithm.network.normalize=7up: expected true or false"),
    ("GYM env.stepping=sync", "env.stepping=sync: expected one of async, lockstep"),
    ("GYM device=gpu", "device=gpu: expected one of auto, cpu, cuda"),
    ("GYM algorithm.network.activation=gelu", "algorithm.network.activation=gelu: expected one of relu, silu, tanh"),
    ("GYM learners=0", "learners=0 must lie between 1 and 64"),
    ("GYM learners=2 run.mode=inline", "run.mode=inline takes turns in one process, to reproduce a run exactly, and"),
    (
        "GYM algorithm=custom algorithm.path=tests.algorithms.algorithm_toys:Still learners=2",
        "learners=2 can share the gradient steps of ppo, sac and poca, and not those of algorithm=custom",
    ),
    ("GYM learners=2 device=cuda", "learners=2 compute on this machine's cores: use device=cpu, or one learner on"),
    ("GYM run.mode=fast", "run.mode=fast: expected one of async, inline"),
    ("GYM algorithm.network.hidden=[a]", "algorithm.network.hidden=[a]: expected an integer"),
    ("GYM algorithm.network.hidden=64", "algorithm.network.hidden=64: expected a list, such as [1,2]"),
    ("GYM seed=null", "seed=null: it needs a value"),
    ("GYM run=4", "run=4: it holds keys of its own"),
    ("GYM seed=1,2", "seed=1,2"),
    ("GYM seed=${sed}", "Interpolation key 'sed' not found"),
    ("GYM seed", "cannot read 'seed': seed needs a value, seed=..."),
    ("GYM run.name=a=b", "cannot read 'run.name=a=b'"),
    ("GYM env.instances=0", "env.instances=0 must be above 0"),
    ("GYM env.workers=17", "env.workers=17 is more than env.instances=16"),
    ("GYM env.min_instances=0", "env.min_instances=0 must be above 0"),
    ("GYM env.min_instances=17", "env.min_instances=17 is more than env.instances=16"),
    ("GYM env.time_scale=-1", "env.time_scale=-1.0 must be at least 0"),
    ("GYM env.step_timeout=nan", "env.step_timeout=nan must be above 0"),
    ("GYM stop.samples=-5", "stop.samples=-5 must be above 0"),
    ("GYM checkpoint.keep=0", "checkpoint.keep=0 must be above 0"),
    ("GYM goal.also_window_samples=[0]", "goal.also_window_samples[0]=0 must be above 0"),
    ("GYM seed=-1", "seed=-1 must lie between 0 and 9223372036854775807"),
    ("GYM algorithm.discount=1.5", "algorithm.discount=1.5 must lie between 0 and 1"),
    ("GYM algorithm=sac algorithm.batch_size=0", "algorithm.batch_size=0 must be at least 1"),
    ("GYM algorithm.name=sac", "algorithm.name=sac does not fit"),
    ("GYM reward.extrinsic.strength=-1", "reward.extrinsic.strength=-1.0 must be at least 0"),
    ("GYM goal.metric=x", "goal.metric=x needs one of goal.at_most and goal.at_least; there is neither"),
    ("GYM goal.metric=x goal.at_most=1 goal.at_least=1", "there is goal.at_most=1.0 and goal.at_least=1.0"),
    ("GYM goal.at_most=1", "goal.at_most=1.0 needs goal.metric"),
    ("env.id=Cartpole-v1", "CartPole-v1"),
    ("env.id=no_such_module:Game-v0", "no_such_module"),
    ("GYM env.wrappers=[no.such:Wrapper]", "no.such"),
    ("GYM algorithm.buffer_memory_mib=100000000", "the buffer (algorithm.buffer_memory_mib) 97656.25 GiB"),
    ("resume=nowhere", "nowhere is not a run's folder, it does not exist"),
    ("resume=.", ". is not a run's folder, it has no config.yaml"),
    ("GYM init=nowhere", "nowhere is not a run's folder, it does not exist"),
    ("GYM run.dir=", "run.dir is empty"),
    ("GYM --config-dir nowhere", "--config-dir nowhere is not a folder"),
    ("GYM --config-path nowhere", "--config-path"),
    ("GYM --config-name nowhere", "nowhere"),
    (
        "GYM --num-layers 2",
        "--num-layers is no flag: settings are written key=value, without dashes: algorithm.network",
    ),
    ("GYM --train_freq=4", "without dashes: algorithm.updates_per_sample=..."),
    ("GYM --nonsense", "--nonsense is no flag: settings are written key=value, without dashes; --help lists them"),
    ("GYM ~env", "env is missing: give it, for example env=..."),
    ("GYM env.id=null", "env.id=null: it needs a value"),
    ("GYM run.log_seconds=0", "run.log_seconds=0.0 must be above 0"),
    ("GYM run.picture_minutes=-1", "run.picture_minutes=-1.0 must be at least 0"),
    ("GYM stop.seconds=nan", "stop.seconds=nan must be above 0"),
    ("GYM stop.reward=nan", "stop.reward=nan must be a finite number"),
    ("GYM goal.metric=reward goal.at_least=inf", "goal.at_least=inf must be a finite number"),
    ("GYM goal.window_samples=0", "goal.window_samples=0 must be above 0"),
    ("GYM checkpoint.every_seconds=inf", "checkpoint.every_seconds=inf must be a finite number"),
    ("GYM env.restarts=-1", "env.restarts=-1 must be at least 0"),
    ("GYM env.instances=100000", "env.instances=100000 must be above 0 and at most 65536"),
    ("GYM env.workers=0", "env.workers=0 must be above 0"),
    ("GYM env.workers=1 env.instances=300", "env.workers=1 are too few for env.instances=300"),
    ("GYM seed=9223372036854775808", "seed=9223372036854775808 must lie between 0 and 9223372036854775807"),
    ("GYM seed=1e5", "seed=1e5: expected an integer"),
    ("GYM algorithm.clip=0", "algorithm.clip=0.0 must be above 0"),
    ("GYM algorithm.epochs=0", "algorithm.epochs=0 must be at least 1"),
    ("GYM algorithm.gae_lambda=-0.1", "algorithm.gae_lambda=-0.1 must lie between 0 and 1"),
    ("GYM algorithm.max_lag=-1", "algorithm.max_lag=-1 must be at least 0"),
    ("GYM algorithm.minibatch_size=9999", "is larger than algorithm.rollout_size=2048"),
    ("GYM algorithm.learning_rate=inf", "algorithm.learning_rate=inf must be a finite number"),
    ("GYM algorithm.learning_rate_end=1e-5", "needs algorithm.schedule_samples: when it is to be reached"),
    ("GYM algorithm.schedule_samples=0", "algorithm.schedule_samples=0 must be at least 1"),
    ("GYM algorithm.buffer_memory_mib=0", "algorithm.buffer_memory_mib=0 must be at least 1"),
    ("GYM algorithm.buffer_capacity=1", "algorithm.buffer_capacity=1 has to be 12288 or more here"),
    ("GYM algorithm.network.hidden=[0]", "algorithm.network.hidden[0]=0 must be at least 1"),
    ("GYM algorithm.network.encoder=big", "encoder=big: unknown encoder; there is simple, nature, impala"),
    ("GYM algorithm.network.custom=nowhere:Net", "nowhere:Net cannot be imported"),
    ("GYM algorithm.network.memory.sequence_length=1", "memory.sequence_length=1 must be at least 2"),
    ("SAC algorithm.target_rate=2", "algorithm.target_rate=2.0 must be above 0 and at most 1"),
    ("SAC algorithm.temperature=0", "algorithm.temperature=0.0 must be above 0"),
    ("SAC algorithm.n_step=0", "algorithm.n_step=0 must be at least 1"),
    ("SAC algorithm.updates_per_sample=0", "algorithm.updates_per_sample=0.0 must be above 0"),
    ("SAC algorithm.buffer_capacity=3", "algorithm.buffer_capacity=3 has to be 2000 or more here"),
    ("GYM algorithm=custom", "algorithm.path is missing: name your class"),
    ("GYM algorithm=custom algorithm.path=os:path", "algorithm.path: os:path must be a class"),
    ("GYM algorithm=custom algorithm.path=x", "'x' is no import path: write package.module:Class"),
    ("GYM reward.curiosity.strength=-1", "reward.curiosity.strength=-1.0 must be at least 0"),
    ("GYM reward.curiosity.forward_share=1", "reward.curiosity.forward_share=1.0 must lie between 0 and 1"),
    ("GYM reward.rnd.encoding_size=1", "reward.rnd.encoding_size=1 must be at least 2"),
    ("GYM reward.rnd.strength=0.1 algorithm.discount=1", "algorithm.discount=1.0 with reward.rnd"),
    ("GYM behaviors.A=null", "'CartPole-v1' appeared, but behaviors names only 'A'"),
    ("GYM behaviors.A=3", "behaviors.A=3: it holds keys of its own and takes no value"),
    ("-m GYM seed=1,-1", "seed=-1 must lie between 0 and 9223372036854775807"),
    ("-m GYM seed=range(0,x)", "cannot read 'seed=range(0,x)'"),
    ("-m GYM algorithm=ppo,dqn", "unknown algorithm 'dqn'; there is custom, poca, ppo, sac"),
    ("-m GYM seed=1,2 run.dir=a", "run.dir=a: 2 runs need one each"),
]
BEGINNERS = [
    ("", "env=unity env.executable=Builds/Game, or an experiment, +experiment=basic_ppo; --help"),
    (
        "env=CartPole-v1",
        "unknown env 'CartPole-v1', a kind of environment; a Gymnasium environment is env.id=CartPole-v1",
    ),
    ("CartPole-v1", "cannot read 'CartPole-v1': write env.id=CartPole-v1"),
    ("--env CartPole-v1", "--env is no flag: settings are written key=value, without dashes: env.id=CartPole-v1"),
    ("GYM --algo=sac", "--algo=sac is no flag: settings are written key=value, without dashes: algorithm=sac"),
    ("GYM --total-timesteps 1000", "without dashes: stop.samples=1000"),
    ("GYM --run-id=first", "without dashes: run.name=first"),
    ("GYM --env.instances 4", "without dashes: env.instances=4"),
    ("--experiment mine", "--experiment is no flag: settings are written key=value, without dashes: +experiment=mine"),
    ("--resume runs/x", "--resume is no flag: settings are written key=value, without dashes: resume=runs/x"),
    ("resume runs/x", "cannot read 'resume': resume needs a value, resume=runs/x"),
    ("GYM run=runs/x", "Write resume=... to go on with a run, and run.dir=... for the folder of a new one"),
    ("GYM stop=1000", "Its keys are stop.samples, stop.seconds, stop.reward"),
    ("GYM instances=4", "unknown key instances; did you mean env.instances or evaluate.instances?"),
    ("GYM clip=0.1", "unknown key clip; did you mean algorithm.clip?"),
    ("GYM algo=ppo", "unknown key algo; here it is algorithm"),
    ("GYM Algorithm.Clip=0.1", "unknown key Algorithm; did you mean algorithm?"),
    ("GYM env.executable=x", "Another env has it, which env=... chooses"),
    ("GYM algorithm.temperature=1", "Another algorithm has it, which algorithm=... chooses"),
    ("GYM algorithm=PPO", "unknown algorithm 'PPO'; did you mean ppo?"),
    ("GYM algorithm=a2c", "unknown algorithm 'a2c'; there is custom, poca, ppo, sac"),
    ("env.id = CartPole-v1", "cannot read 'env.id = CartPole-v1': write env.id=CartPole-v1, without spaces around ="),
    ("env.id= CartPole-v1", "write env.id=CartPole-v1, without spaces around ="),
    ("env.id =CartPole-v1", "write env.id=CartPole-v1, without spaces around ="),
    ("GYM algorithm.network.hidden=[64, 64]", "put quotes around the whole: 'algorithm.network.hidden=[64, 64]'"),
    ("GYM algorithm.network.hidden=[64,", "its brackets do not match"),
    ("GYM algorithm.network.hidden=64,64", "a list is written algorithm.network.hidden=[64,64], and -m makes a run"),
    ("GYM algorithm.network.hidden=(64,64)", "lists are written algorithm.network.hidden=[64,64]"),
    ("GYM env.kwargs={'size':3}", "names in braces stand without quotes, 'env.kwargs={size:3}'"),
    ("GYM stop.samples=1e5", "stop.samples=1e5: expected an integer, such as 100000"),
    ("env.id:CartPole-v1", "cannot read 'env.id:CartPole-v1': write env.id=CartPole-v1"),
    ("GYM algorithm..clip=0.1", "cannot read 'algorithm..clip=0.1': write algorithm.clip=0.1"),
    ("env.id=CartPole-v1, seed=1", "settings are separated by spaces, without commas"),
    ("GYM \u201cseed=1\u201d", "it holds \u201c, which is no plain quote or dash"),
    ("\u2013resume=x", "it holds \u2013, which is no plain quote or dash"),
    ("trainer_config.yaml", "ML-Agents' files become one by outstep convert"),
    ("evaluate run=x", "cannot read 'evaluate': evaluate is a command of its own, outstep evaluate ..."),
    ("help", "cannot read 'help': write --help"),
    ("--help gamma", "unknown key gamma; here it is algorithm.discount"),
    ("--help env=nowhere", "unknown env 'nowhere'"),
    ("--shell-completion", "--shell-completion needs install=bash"),
    ("env.id=ALE/Pong-v5", "No module that was imported has registered ids of ALE/"),
    ("env.id=./mygame.py", "A file is named with the id that it registers."),
    ("env=", "env= is empty"),
]
ENVS = [
    ("GYM env.kwargs=3", "env.kwargs=3: it holds keys of its own"),
    (
        "GYM env.kwargs.sise=1",
        "(env.kwargs) cannot be made: got an unexpected keyword argument 'sise'; it takes",
    ),
    ("GYM env.wrappers=[3]", "env.wrappers: '3' is no import path: write package.module:Class"),
    ("GYM env.wrappers=tests.toys:Flags", "env.wrappers=tests.toys:Flags: expected a list"),
    ("GYM env.wrappers=[tests.toys:Flagz]", "env.wrappers: tests.toys:Flagz: module tests.toys has no Flagz"),
    ("GYM env.wrappers=[tests.toys:sys]", "Wrapper 'tests.toys:sys' (env.wrappers) is a module: it must be a class"),
    (
        "GYM env.wrappers=[tests.toys:never_wraps]",
        "is a function: it must be a class that derives from gymnasium",
    ),
    (
        "GYM env.wrappers=[unittest.mock:MagicMock]",
        "is the class MagicMock: it must be a class that derives from gym",
    ),
    ("GYM env.wrappers=[{path:timeit:timeit,kwargs:{stmt:1}}]", "Wrapper 'timeit:timeit' (env.wrappers) is a function"),
    (
        "GYM env.wrappers=[gymnasium.wrappers:TimeLimit]",
        "missing a required argument: 'max_episode_steps'",
    ),
    ("GYM env.wrappers=[{path:tests.toys:AddSteps,kwargs:{bonuz:1}}]", "unexpected keyword argument 'bonuz'; it takes"),
    (f"{TOYS}Wordy-v0", "Text"),
]
LESSONS = "env.parameters.size={lessons:[{value:1,until:{%s}},{value:2}]}"
PARAMETERS = [
    ("GYM env.parameters.a=text", "env.parameters.a=text must be a number, or a sampler: {sampler: uniform, min"),
    ("GYM env.parameters.a={sampler:uniform,min:2,max:1}", "[2, 1] has its least value above its greatest"),
    (
        "GYM env.parameters.a={lessons:[{value:1},{value:2}]}",
        "a.lessons[0].until is missing, so this lesson would never",
    ),
    (
        f"GYM {LESSONS % 'measure:progress,above:80'}",
        "above=80 must lie between 0 and 1: progress is the share of stop.",
    ),
    (
        f"GYM {LESSONS % 'measure:progress,above:0.5'}",
        "until.measure=progress is the share of stop.samples that is done",
    ),
    (
        f"GYM {LESSONS % 'above:1,behavior:Cart'}",
        "until.behavior=Cart: there is no such behavior; the game has CartPole-v1",
    ),
    (
        f"UNITY behaviors.A.algorithm.discount=0.9 {LESSONS % 'above:1,behavior:B'}",
        "env.parameters.size.lessons[0].until.behavior=B: there is no such behavior; the game has A",
    ),
    (
        f"UNITY {LESSONS % 'above:1,behavior:B,measure:Wins'}",
        "Wins is a number that the game reports, and belongs to no behavior: leave behavior out",
    ),
]
UNITYS = [
    ("UNITY env.executable=a/b", "env.executable=a/b and env.player=env=basic: a player comes from one of them"),
    ("UNITY env.registry=Basic", "env.registry=Basic and env.player=env=basic: "),
    ("UNITY env.manifest=a.yaml", "env.manifest=a.yaml needs env.registry"),
    ("UNITY env.time_scale=0", "env.time_scale=0.0 must be above 0 and at most"),
    ("UNITY env.instances=0", "env.instances=0 must be above 0"),
    ("UNITY env.num_areas=0", "env.num_areas=0 must be above 0"),
    ("UNITY env.connect_timeout=0", "env.connect_timeout=0.0 must be above 0"),
    ("UNITY env.width=0", "env.width=0 must be above 0"),
    ("UNITY env.quality_level=-1", "env.quality_level=-1 must lie between 0 and 2147483647"),
    ("UNITY env.target_frame_rate=-2", "env.target_frame_rate=-2 must lie between -1 and 2147483647"),
    ("UNITY run.mode=inline", "run.mode=inline is for reproducing a run exactly"),
    ("UNITY behaviors.A.algorithm.discount=2", "behaviors.A.algorithm.discount=2.0 must lie between 0 and 1"),
    ("UNITY behaviors.A.reward.extrinsic.strength=-1", "behaviors.A.reward.extrinsic.strength=-1.0 must be at least 0"),
    (
        "UNITY behaviors.A.algorithm.name=sac behaviors.A.algorithm.batch_size=0",
        "behaviors.A.algorithm.batch_size=0 must be at least 1",
    ),
    ("UNITY env.id=x", "unknown key env.id; env holds instances, "),
    ("UNITY env.args=x", "env.args=x: expected a list"),
    ("UNITY env.parameters.a=text", "env.parameters.a=text must be a number, or a sampler: {sampler: uniform, min"),
    ("UNITY env.parameters.a=nan", "env.parameters.a=nan must be a number"),
    ("UNITY env.parameters.a={sampler:normal}", "env.parameters.a={'sampler': 'normal'} is no sampler"),
    ("UNITY env.parameters.a={sampler:uniform,min:2,max:1}", "[2, 1] has its least value above its greatest"),
    ("UNITY env.parameters.a={sampler:gaussian,mean:0,deviation:-1}", "a.deviation=-1 must not be negative"),
    ("UNITY env.parameters.a={sampler:multi_range,intervals:[]}", "a.intervals=[] must be a list of pairs"),
    ("UNITY env.channels=[nowhere:X]", "env.channels: nowhere:X cannot be imported"),
    ("UNITY env.channels=[os:getcwd]", "os:getcwd must be a subclass of mlagents_envs.side_channel.SideChannel"),
    ("env=unity env.executable=nowhere", "env.executable=nowhere does not exist (seen from "),
    ("env=unity env.executable=.", "env.executable=. is a folder: name the build's executable in it"),
    ("env=unity env.instances=2", "env.instances=2, but the Unity Editor plays one game"),
    ("env=unity env.port=70000", "env.port=70000 must lie between 1 and 65535"),
    ("env=unity env.registry=X env.manifest=nowhere.yaml", "env.manifest=nowhere.yaml: there is no such file"),
]
PLAYERS = [
    ("", "No env was given. Write env=basic"),
    ("basic", "'basic' is neither key=value nor a flag"),
    ("env=Nope-v0", "Unknown environment id 'Nope-v0'"),
    ("env=basic agents=0", "agents=0: it has to be a whole number, 1 or more"),
    ("env=basic agent=2", "Unknown key 'agent' (=2). Known are: env, "),
    ("env=basic kwargs.x=1", "(env.kwargs) cannot be made: got an unexpected keyword argument 'x'"),
    ('env=basic x="', "cannot be read as words: No closing quotation"),
]
BOT = "env=basic player=bot to=new.demo"
COMMANDS = [
    (record, "env=basic to=a.demo", "player is missing: give player=bot"),
    (record, "env=basic player=bot", "to is missing: give the file to write"),
    (record, "player=bot to=a.demo", "env is missing: give it, for example env=bubble_shooter"),
    (record, f"{BOT} episodes=0", "episodes=0 must be at least 1"),
    (record, f"{BOT} seed=-1", "seed=-1 must lie between 0 and 9223372036854775807"),
    (record, f"{BOT} fps=nan", "fps=nan must be above 0"),
    (record, f"{BOT} to=a.txt", "to=a.txt must end in .demo"),
    (record, f"{BOT} player=nobody", "player=nobody is unknown: give player=bot"),
    (record, f"{BOT} player=nowhere:x", "player: nowhere:x cannot be imported (ModuleNotFoundError: No module"),
    (record, f"{BOT} player=os:sep", "player=os:sep is str, not a function or class that makes a bot"),
    (record, f"{BOT} env.instances=0", "env.instances=0 must be above 0"),
    (record, f"-m {BOT} seed=1,2", "to=new.demo: 2 runs need one each"),
    (record, f"env=gym {GYM} player=bot to=a.demo", "CartPole-v1 has no bot of its own (make_bot)"),
    (record, f"env=gym {TOYS}Faulty-v0 env.kwargs.fault=make player=bot to=a.demo", "cannot be made: no licence"),
    (record, f"env=gym {TOYS}Faulty-v0 env.kwargs.fault=always player=bot to=a.demo", "cannot be reset: the level is"),
    (record, "env=unity player=bot to=a.demo", "player=bot plays Gymnasium environments"),
    (evaluate, "", "run is missing: give it, for example run=runs/..."),
    (evaluate, "runs/x", "cannot read 'runs/x': write run=runs/x"),
    (evaluate, "--run runs/x", "write run=runs/x"),
    (report, "env=gym", "unknown key env; the configuration holds run, to"),
    (record, "--help gamma", "unknown key gamma"),
    (evaluate, "run=", "the folder of the run is empty"),
    (evaluate, "run=nowhere", "nowhere is not a run's folder, it does not exist"),
    (evaluate, "run=nowhere episodes=0", "episodes=0 must be at least 1"),
    (evaluate, "run=nowhere seed=-1", "seed=-1 must lie between 0 and 9223372036854775807"),
    (evaluate, "run=nowhere checkpoint=worst", "checkpoint=worst: expected one of best, last"),
    (evaluate, "run=nowhere env=nothing", "unknown env 'nothing'; there is basic"),
    (evaluate, "run=nowhere evn=1", "unknown key evn; did you mean env?"),
    (report, "", "run is missing: give it, for example run=runs/..."),
    (report, "run=nowhere", "nowhere is not a run's folder, it does not exist"),
    (report, "rnu=x", "unknown key rnu; did you mean run?"),
    (demos, "", "the following arguments are required: command; see --help"),
    (demos, "show", "the following arguments are required: file"),
    (demos, "hide x", "argument command: invalid choice: 'hide'"),
    (demos, "show --jsn x", "unrecognized arguments: --jsn"),
    (demos, "show nowhere.demo", "file=nowhere.demo does not exist"),
    (demos, "show .", "file=.: the folder holds no .demo file"),
]


@pytest.mark.parametrize(
    ("line", "message"), CONFIG + BEGINNERS + ENVS + PARAMETERS + UNITYS, ids=lambda each: each[:60] or "nothing"
)
def test_a_run_that_cannot_be_is_refused(refused, line, message):
    reported = refused(*(word for part in line.split() for word in SHORT.get(part, part).split()))
    assert message in reported
    assert "\n" not in reported


@pytest.mark.parametrize(("command", "line", "message"), COMMANDS)
def test_what_a_command_cannot_do_is_refused(refused, command, line, message):
    reported = refused(*line.split(), main=command.main)
    assert message in reported
    assert "\n" not in reported


@pytest.mark.parametrize(
    ("fault", "stage", "message"),
    [
        ("make", "cannot be made", "no licence for this game"),
        ("always", "fails in its first reset", "the level is missing"),
    ],
)
def test_an_env_that_fails_is_refused_with_what_it_raised(refused, fault, stage, message):
    reported = refused(f"{TOYS}Faulty-v0", f"env.kwargs.fault={fault}")
    first, *places = reported.splitlines()
    assert first == f"Environment 'tests.toys:Faulty-v0' {stage}: RuntimeError: {message}"
    assert 1 <= len(places) <= 5
    assert all("tests/toys.py:" in place for place in places)


@pytest.mark.parametrize("words", [["GYM seed=1"], [""], ["seed=1", "=", "2"]])
def test_what_the_shell_has_torn_apart_is_refused(refused, words):
    assert "\n" not in refused(*(word.replace("GYM", GYM) for word in words))


@pytest.mark.parametrize("given", ["experiment/mine.yaml", "./experiment/mine"])
def test_an_experiment_that_is_given_by_its_path_is_refused_with_the_words_that_find_it(
    tmp_path, monkeypatch, capsys, given
):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("seed: 3\n")
    monkeypatch.chdir(tmp_path)
    for words in ([f"+experiment={given}"], ["--experiment", given]):
        assert train(words) == 2
        assert " +experiment=mine\n" in capsys.readouterr().err


def test_an_experiment_in_another_folder_is_refused_with_the_words_that_find_it(tmp_path, monkeypatch, capsys):
    (tmp_path / "my conf" / "experiment").mkdir(parents=True)
    (tmp_path / "my conf" / "experiment" / "mine.yaml").write_text("seed: 3\n")
    monkeypatch.chdir(tmp_path)
    assert train(["+experiment=my conf/experiment/mine.yaml"]) == 2
    assert "--config-dir 'my conf' +experiment=mine" in capsys.readouterr().err


def test_the_editors_port_is_found_in_use_before_anything_begins(refused):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        reported = refused("env=unity", f"env.port={port}")
    assert reported.startswith(
        f"port {port} is in use: another run, or ML-Agents' own trainer, waits for the Unity Editor"
    )
