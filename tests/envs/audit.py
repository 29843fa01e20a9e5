"""Checks every message of a manager that drives oracles: each closing belongs to the open decision, none is missing."""

import numpy as np

from envs.seeding import episode_seed
from tests.toys import oracle_length, oracle_truncates


class Audit:
    """Acts, and compares what comes back with what the oracle must say.

    `choose(agent, step)` picks actions; `bad_reset` is the episode that a lost agent never saw begin. `counts` are
    results by agent, `lost` agents in the order they were lost.
    """

    def __init__(self, manager, seed, choose=lambda agent, step: (agent + step) % 4, length=None, bad_reset=None):
        self.manager, self.seed, self.choose, self.length, self.bad_reset = manager, seed, choose, length, bad_reset
        self.open, self.episode, self.waiting = {}, {}, {}
        self.counts = dict.fromkeys(range(manager.instances), 0)
        self.lost, self.order, self.endings = [], [], {"terminated": 0, "truncated": 0}

    def turn(self, timeout=200.0, skip=()):
        """One `recv`, checked, and actions for all that wait, `skip` apart. Returns what was received."""
        ready = self.manager.recv(timeout)
        for behavior, said in ready.items():
            self._lose(said.lost.tolist())
            self._close(said.results, said.metrics)
            self._open(said.decisions)
            self.act(behavior, skip)
        return ready

    def act(self, behavior, skip=()):
        agents = [agent for agent in self.waiting if agent not in skip]
        if agents:
            actions = [self.choose(agent, self.waiting.pop(agent)) for agent in agents]
            for agent, action in zip(agents, actions):
                self.open[agent] = (*self.open[agent], action)
            continuous, discrete = np.zeros((len(agents), 0), np.float32), np.array(actions, np.int32)[:, None]
            self.manager.send(behavior, np.array(agents), continuous, discrete)

    def until(self, condition, turns=100_000, **kwargs):
        for _ in range(turns):
            if condition():
                return
            assert self.turn(**kwargs), "nothing came in a minute"
        raise AssertionError("it did not come about")

    def _lose(self, lost):
        for agent in lost:
            del self.open[agent]
            self.waiting.pop(agent, None)
            self.lost.append(agent)

    def _close(self, results, metrics):
        finals = iter(results.final_observations[0])
        np.testing.assert_array_equal(results.instance, results.agent)
        for agent, reward, terminated, truncated in zip(*(field.tolist() for field in results[1:5])):
            seed, step, action = self.open.pop(agent)
            over = step + 1 == (self.length or oracle_length(seed))
            assert reward == 100 * (step + 1) + action
            assert (terminated, truncated) == (over and not oracle_truncates(seed), over and oracle_truncates(seed))
            assert metrics.pop(agent, None) == ({"steps": step + 1, "flag": 1.0} if over else None)
            if truncated:
                np.testing.assert_array_equal(next(finals), [seed >> 16, seed & 0xFFFF, step + 1, action])
            self.endings["terminated"] += terminated
            self.endings["truncated"] += truncated
            self.counts[agent] += 1
            self.order.append(agent)
            self.open[agent] = (None, 0, action) if over else (seed, step + 1, action)
        assert next(finals, None) is None
        assert not metrics

    def _open(self, decisions):
        np.testing.assert_array_equal(decisions.instance, decisions.agent)
        for agent, observation in zip(decisions.agent.tolist(), decisions.observations[0].astype(int).tolist()):
            assert agent not in self.waiting
            seed, step, last = self.open.pop(agent, (None, 0, -1))
            if seed is None:
                self.episode[agent] = self.episode.get(agent, -1) + 1
                self.episode[agent] += self.episode[agent] == self.bad_reset and agent in self.lost
                seed, step, last = episode_seed(self.seed, agent, self.episode[agent]), 0, -1
            assert observation == [seed >> 16, seed & 0xFFFF, step, last]
            self.open[agent] = (seed, step)
            self.waiting[agent] = step
