"""Plays whatever games of several agents a manager has, and keeps what is said of each agent."""

from collections import Counter

import numpy as np


class Playing:
    """Acts for all that ask, by what each sees; keeps what is said of each agent, by instance and behavior."""

    def __init__(self, games):
        self.games, self.open, self.log, self.lost = games, {}, [], Counter()

    def turn(self):
        ready = self.hear()
        self.act(ready)
        return ready

    def hear(self):
        ready = self.games.recv(100.0)
        for name, said in ready.items():
            for agent in said.lost.tolist():
                self.open.pop((name, agent), None)
                self.lost[name] += 1
            results, finals = said.results, iter(said.results.final_observations[0])
            for row, agent in enumerate(results.agent.tolist()):
                seen = self.open.pop((name, agent))
                over = bool(results.terminated[row]), bool(results.truncated[row])
                final = next(finals).tolist() if over[1] else None
                metrics = said.metrics.get(agent)
                entry = (int(results.instance[row]), name, agent, seen, float(results.reward[row]), *over)
                self.log.append((*entry, final, metrics))
        return ready

    def act(self, ready):
        for name, said in ready.items():
            asked = said.decisions
            for row, agent in enumerate(asked.agent.tolist()):
                seen = tuple(asked.observations[0][row].tolist())
                self.open[name, agent] = (*seen, self.choose(seen, asked.mask[row]))
            actions = np.array([[self.open[name, agent][-1]] for agent in asked.agent.tolist()], np.int32)
            self.games.send(name, asked.agent, np.zeros((len(asked.agent), 0), np.float32), actions.reshape(-1, 1))

    @staticmethod
    def choose(seen, mask):
        choice = (int(sum(seen)) ** 2 // 3) % (len(mask) or 5)
        return choice if not len(mask) or mask[choice] else int(np.argmax(mask))
