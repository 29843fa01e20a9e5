"""A player by hand: a client that says what a test wants, in messages built by mlagents-envs' own classes."""

from __future__ import annotations

import socket

import grpc

from envs.unity.protocol.messages import METHOD, message

Message = message("unity_message", "UnityMessageProto")
Info = message("agent_info", "AgentInfoProto")
Parameters = message("brain_parameters", "BrainParametersProto")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


def info(key, observation, reward=0.0, done=False, cut=False, group_reward=0.0, mask=(), group=0):
    """An agent with one vector observation."""
    made = Info(id=key, reward=reward, done=done, max_step_reached=cut, group_reward=group_reward, action_mask=mask)
    made.group_id = group
    vector = made.observations.add(shape=[len(observation)], dimension_properties=[1], name="vector")
    vector.float_data.data.extend(observation)
    return made


def parameters(behavior, branches=(3,), continuous=0):
    """A behavior's actions."""
    made = Parameters(brain_name=behavior, is_training=True)
    made.action_spec.num_continuous_actions = continuous
    made.action_spec.num_discrete_actions = len(branches)
    made.action_spec.discrete_branch_sizes.extend(branches)
    return made


class Client:
    """Speaks when told to; `say` returns a future of the answer."""

    def __init__(self, port: int, manager=None) -> None:
        """`manager` is run while an answer is waited for."""
        self._manager = manager
        self._channel = grpc.insecure_channel(
            f"localhost:{port}",
            options=[("grpc.use_local_subchannel_pool", 1)],  # else two clients of a process share a connection
        )
        self._call = self._channel.unary_unary(METHOD)
        self._last = None

    def send(self, content):
        """A future of the answer's bytes."""
        return self._call.future(content.SerializeToString(), timeout=200)

    def introduce(self, version="1.5.0"):
        """The player's first message; the answer's initialization."""
        hello = Message()
        hello.header.status = 200
        about = hello.unity_output.rl_initialization_output
        about.name, about.communication_version, about.package_version = "by hand", version, "2.3.0"
        return self._answered(hello)

    def ask_for_input(self):
        """The empty second message; the answer holds RESET."""
        empty = Message()
        empty.header.status = 200
        return self._answered(empty)

    def _answered(self, content):
        future = self.send(content)
        while self._manager is not None and not future.done():
            assert self._manager.recv(0.01) == {}
        return Message.FromString(future.result())

    def say(self, agents, new=(), side_channel=b"", status=200):
        """Agents by behavior id, and parameters of behaviors that are new; after the answer to what was said before."""
        if self._last is not None:
            self._last.get()
        said = Message()
        said.header.status = status
        said.unity_output.rl_initialization_output.brain_parameters.extend(new)
        said.unity_output.rl_output.side_channel = side_channel
        for behavior, infos in agents.items():
            said.unity_output.rl_output.agentInfos[behavior].value.extend(infos)
        self._last = Answer(self.send(said))
        return self._last

    def close(self):
        """Leaves without a word."""
        self._channel.close()


class Answer:
    """What the trainer says to a message, once it does."""

    def __init__(self, future) -> None:
        self._future = future

    @property
    def there(self) -> bool:
        """Whether it has come."""
        return self._future.done()

    def get(self):
        """The answer, waited for."""
        return Message.FromString(self._future.result())

    def actions(self, behavior):
        """Discrete actions for the agents of a behavior, in order."""
        given = self.get().unity_input.rl_input.agent_actions[behavior].value
        return [list(action.discrete_actions) for action in given]
