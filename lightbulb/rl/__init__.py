"Learning to act: prioritized replay, advantages, PPO and the hierarchy of manager and worker."
