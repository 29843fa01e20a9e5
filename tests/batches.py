"""Batched environments for tests: `tests.batches:same_step`, `tests.batches:next_step`, `tests.batches:disabled`."""

from __future__ import annotations

from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tests.toys import Mixed, Oracle


class Counting(Oracle):
    """An oracle whose episodes have seeds of their own even where the batch resets it without one."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=self.seed + 17 if seed is None else seed % 60_000, options=options)


class Broken(Counting):
    def step(self, action):
        if self.at == 3:
            raise RuntimeError("the batch broke")
        return super().step(action)


def same_step(num_envs, env=Counting):
    return SyncVectorEnv([env] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def next_step(num_envs, env=Counting):
    return SyncVectorEnv([env] * num_envs, autoreset_mode=AutoresetMode.NEXT_STEP)


def disabled(num_envs):
    return SyncVectorEnv([Counting] * num_envs, autoreset_mode=AutoresetMode.DISABLED)


def too_few(num_envs):
    return next_step(1)


def broken(num_envs):
    return next_step(num_envs, Broken)


def mixed(num_envs):
    return next_step(num_envs, Mixed)
