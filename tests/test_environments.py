"""Worlds against plain programs: boards as dictionaries, minimax by recursion, value iteration in loops, Gymnasium itself step by step."""

from __future__ import annotations

from functools import lru_cache

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit, TransformObservation, TransformReward
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.rl.vector_environments import EnvironmentFailure
from lightbulb.world.board_games import BoardGame, ConnectFour, TicTacToe, _Bitboards, _holds_line, plain_values
from lightbulb.world.environments import (
    Arena,
    _wilson_interval,
    judge,
    make_world,
    perfect_agent,
    play_episodes,
    play_every_reply,
    random_agent,
)
from lightbulb.world.gymnasium_worlds import GameFailure, GymnasiumWorld
from lightbulb.world.tables import (
    Tables,
    _recurrent_states,
    policy_values,
    optimal_policy,
    optimal_values,
    plain_optimal_values,
    read_tables,
)

# ------------------------------------------------------------------ boards as one writes them down


class PlainBoard:
    "A grid as a dictionary from (row, column) to the player, 0 or 1."

    def __init__(self, rows: int, columns: int, connect: int, gravity: bool) -> None:
        self.rows, self.columns, self.connect, self.gravity = rows, columns, connect, gravity
        self.stones: dict[tuple[int, int], int] = {}
        self.mover, self.winner = 0, -1

    def cell(self, action: int) -> tuple[int, int] | None:
        "Where the stone comes to lie; None: not possible."
        if not self.gravity:
            row, column = divmod(action, self.columns)
            return None if (row, column) in self.stones else (row, column)
        return next(((row, action) for row in reversed(range(self.rows)) if (row, action) not in self.stones), None)

    def legal(self) -> list[bool]:
        is_over = self.winner >= 0 or len(self.stones) == self.rows * self.columns
        return [
            not is_over and self.cell(action) is not None for action in range(self.columns if self.gravity else self.rows * self.columns)
        ]

    def play(self, action: int) -> tuple[float, bool]:
        place = self.cell(action)
        assert place is not None
        row, column = place
        self.stones[row, column] = self.mover
        for down, across in ((0, 1), (1, 0), (1, 1), (1, -1)):
            length = 1
            for sign in (1, -1):
                step = 1
                while self.stones.get((row + sign * step * down, column + sign * step * across)) == self.mover:
                    step += 1
                length += step - 1
            if length >= self.connect:
                self.winner = self.mover
        won = self.winner >= 0
        self.mover = 1 - self.mover
        return float(won), won or len(self.stones) == self.rows * self.columns

    def observation(self) -> np.ndarray:
        planes = np.zeros((2, self.rows, self.columns))
        for (row, column), player in self.stones.items():
            planes[int(player != self.mover), row, column] = 1
        return planes


@given(st.integers(1, 6), st.integers(1, 7), st.integers(1, 5), st.booleans(), st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_whole_games_agree_with_a_board_of_dictionaries(rows, columns, connect, gravity, seed):
    connect = min(connect, max(rows, columns))
    game, rng, num_games = BoardGame(rows, columns, connect, gravity=gravity), np.random.default_rng(seed), 4
    states, plain = game.reset(num_games, seed), [PlainBoard(rows, columns, connect, gravity) for _ in range(num_games)]
    while len(states):
        legal = game.legal(states)
        np.testing.assert_array_equal(legal, [board.legal() for board in plain])
        np.testing.assert_array_equal(game.observe(states), [board.observation() for board in plain])
        actions = np.array([rng.choice(np.flatnonzero(row)) for row in legal])
        before = states.copy()
        after, rewards, terminated, truncated = game.step(states, actions)
        np.testing.assert_array_equal(states, before)  # a search keeps the old ones
        played = [board.play(int(action)) for board, action in zip(plain, actions, strict=True)]
        np.testing.assert_array_equal(rewards, [reward for reward, _ in played])
        np.testing.assert_array_equal(terminated, [is_over for _, is_over in played])
        assert not truncated.any() and not game.legal(after)[terminated].any()
        np.testing.assert_array_equal(game.is_over(after), terminated)
        states, plain = after[~terminated], [board for board, is_over in zip(plain, terminated, strict=True) if not is_over]


@given(st.integers(2, 5), st.integers(2, 6), st.integers(2, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_bits_hold_a_line_where_the_cells_do(rows, columns, connect, seed):
    connect = min(connect, max(rows, columns))
    game = BoardGame(rows, columns, connect, gravity=True)
    states = np.random.default_rng(seed).integers(-1, 2, (30, rows * columns)).astype(np.int8)
    board = _Bitboards.of(game)
    mine, mask = board.encode(states)
    np.testing.assert_array_equal(board.decode(mine, mask), states)
    np.testing.assert_array_equal(_holds_line(mine, rows + 1, connect), (states[:, game.lines] == 1).all(2).any(1))


def test_illegal_moves_name_the_game_and_the_choices():
    game = TicTacToe()
    states, *_ = game.step(game.reset(2), np.array([4, 0]))
    with pytest.raises(ValueError, match=r"game 0: the action must be one of \[0, 1, 2, 3, 5, 6, 7, 8\], got 4"):
        game.step(states, np.array([4, 4]))
    for action in (-1, 9):
        with pytest.raises(ValueError, match=f"game 1: .* got {action}"):
            game.step(states, np.array([0, action]))
    full = ConnectFour(4, 4)
    column = full.reset(1)
    for _ in range(4):
        column, *_ = full.step(column, np.array([2]))
    with pytest.raises(ValueError, match=r"one of \[0, 1, 3\], got 2"):
        full.step(column, np.array([2]))


# ------------------------------------------------------------------ the truth about games

LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


@lru_cache(None)
def minimax(board: str, player: str) -> tuple[int, dict[int, int]]:
    "The value for `player`, who moves, and of each move: strings of x, o and dots."
    other = "o" if player == "x" else "x"
    if any(all(board[i] == other for i in line) for line in LINES): return -1, {}
    worth = {i: -minimax(board[:i] + player + board[i + 1 :], other)[0] for i, mark in enumerate(board) if mark == "."}
    return max(worth.values(), default=0), worth


def test_every_position_of_tic_tac_toe_has_its_minimax_value():
    solution = TicTacToe().solve()
    minimax("." * 9, "x")
    assert minimax.cache_info().currsize == solution.num_positions == 5478
    assert len(solution.states) == len(np.unique(solution.states, axis=0)) == 4520
    for state, value, values, legal, optimal in zip(
        solution.states, solution.values, solution.move_values, solution.legal, solution.optimal, strict=True
    ):
        player = "x" if (state != 0).sum() % 2 == 0 else "o"
        mark = {1: player, -1: "o" if player == "x" else "x", 0: "."}
        right, worth = minimax("".join(mark[int(stone)] for stone in state), player)
        assert value == right and set(np.flatnonzero(legal)) == set(worth)
        assert all(values[move] == worth[move] for move in worth)
        assert set(np.flatnonzero(optimal)) == {move for move in worth if worth[move] == right}


@pytest.mark.parametrize(
    "game", [TicTacToe(), ConnectFour(3, 4), BoardGame(3, 3, 2, gravity=False), BoardGame(2, 3, 3, gravity=True)], ids=str
)
def test_all_positions_at_once_equal_one_after_the_other(game):
    solution = game.solve()
    assert {state.tobytes(): value for state, value in zip(solution.states, solution.values, strict=True)} == plain_values(game)


def plain_connect_four(rows: int, columns: int) -> dict[tuple[str, ...], int]:
    "Every position as strings of columns, with its value for who moves, by recursion."
    known: dict[tuple[str, ...], int] = {}

    def wins(board: tuple[str, ...], column: int, player: str) -> bool:
        row = len(board[column]) - 1
        for across, up in ((1, 0), (0, 1), (1, 1), (1, -1)):
            length = 1
            for sign in (1, -1):
                i, j = column + sign * across, row + sign * up
                while 0 <= i < columns and 0 <= j < len(board[i]) and board[i][j] == player:
                    length, i, j = length + 1, i + sign * across, j + sign * up
            if length >= 4: return True
        return False

    def value(board: tuple[str, ...], player: str) -> int:
        if board in known: return known[board]
        best = -2
        for column in range(columns):
            if len(board[column]) == rows: continue
            after = board[:column] + (board[column] + player,) + board[column + 1 :]
            if wins(after, column, player):
                known[after], worth = -1, 1
            else:
                worth = -value(after, "o" if player == "x" else "x")
            best = max(best, worth)
        known[board] = best if best > -2 else 0
        return known[board]

    value(("",) * columns, "x")
    return known


def test_every_position_of_connect_four_on_four_by_four_has_its_value():
    game, known = ConnectFour(4, 4), plain_connect_four(4, 4)
    solution = game.solve()
    assert len(known) == solution.num_positions == 161_029
    sample = np.random.default_rng(0).choice(len(solution.states), 20_000, replace=False)
    for state, value in zip(solution.states[sample], solution.values[sample], strict=True):
        player = "x" if (state != 0).sum() % 2 == 0 else "o"
        mark = {1: player, -1: "o" if player == "x" else "x"}
        board = tuple("".join(mark[int(stone)] for stone in column[::-1] if stone) for column in state.reshape(4, 4).T)
        assert known[board] == value
    found = np.random.default_rng(1).choice(len(solution.states), 2000, replace=False)
    np.testing.assert_array_equal(game.move_values(solution.states[found]), solution.move_values[found])
    np.testing.assert_array_equal(solution.find(solution.states[found]), found)


@pytest.mark.parametrize(("rows", "columns", "value"), [(4, 5, 0), (5, 4, 0), (4, 6, -1), (6, 4, 0), (5, 5, 0)])
def test_small_boards_have_the_values_of_tromps_table(rows, columns, value):
    game = ConnectFour(rows, columns)
    assert np.nanmax(game.move_values(game.reset(1))) == value


def test_a_mirrored_board_is_worth_the_same():
    game, rng = ConnectFour(), np.random.default_rng(3)
    states, rows = game.reset(40), np.arange(40)
    for _ in range(24):
        legal = game.legal(states)
        after, _, terminated, _ = game.step(states, np.where(legal, rng.random(legal.shape), -1).argmax(1))
        states, rows = after[~terminated], rows[~terminated]
    values = game.move_values(states[:5])
    mirrored = states.reshape(-1, 6, 7)[:5, :, ::-1].reshape(-1, 42)
    np.testing.assert_array_equal(game.move_values(mirrored), values[:, ::-1])


@pytest.mark.parametrize("game", [TicTacToe(), ConnectFour(4, 5), ConnectFour()])
def test_a_game_begins_anywhere_with_any_number_of_stones(game):
    states = game.reset_anywhere(3000, seed=2)
    stones = (states != 0).sum(1)
    assert game.legal(states).any(1).all() and set(states.sum(1).tolist()) <= {0, -1}  # nobody has moved twice
    if game.gravity:  # nothing hangs in the air
        board = states.reshape(-1, game.rows, game.columns) != 0
        assert (board[:, 1:] | ~board[:, :-1]).all()
    counts = np.bincount(stones, minlength=game.num_cells)
    assert len(counts) == game.num_cells and counts.min() > 3000 / game.num_cells / 2
    np.testing.assert_array_equal(states, game.reset_anywhere(3000, seed=2))
    assert (states != game.reset_anywhere(3000, seed=3)).any()
    with pytest.raises(ValueError, match="num_games must be at least 1"):
        game.reset_anywhere(0)


def test_what_cannot_be_solved_is_said():
    with pytest.raises(ValueError, match="more than 100 positions"):
        TicTacToe().solve(100)
    with pytest.raises(ValueError, match="not solved within 500 positions"):
        ConnectFour().move_values(ConnectFour().reset(1), max_nodes=500)
    solution, floating = ConnectFour(3, 4, 3).solve(), np.zeros((1, 12), np.int8)
    np.testing.assert_array_equal(solution.find(solution.states), np.arange(len(solution.states)))
    floating[0, 4] = 1
    with pytest.raises(ValueError, match="state 0 must be an open position of the game"):
        solution.find(floating)
    with pytest.raises(ValueError, match="needs 70 bits"):
        _Bitboards.of(ConnectFour(6, 10))
    game = ConnectFour(9, 9)  # too large to be solved, not to be played
    states, rewards, *_ = game.step(game.reset(3), np.array([0, 4, 8]))
    assert states.shape == (3, 81) and not rewards.any()


# ------------------------------------------------------------------ agents against games


def plain_games(agent, seat: int, state: np.ndarray, mover: int) -> np.ndarray:
    "Wins, draws and losses over all sequences of replies, one game at a time."
    game, total = TicTacToe(), np.zeros(3, int)
    legal = game.legal(state[None])
    for action in [agent(state[None], legal)[0]] if mover == seat else np.flatnonzero(legal[0]):
        after, rewards, terminated, _ = game.step(state[None], np.array([action]))
        if terminated[0]:
            total[1 if rewards[0] == 0 else 0 if mover == seat else 2] += 1
        else:
            total += plain_games(agent, seat, after[0], 1 - mover)
    return total


def test_every_reply_counts_games_like_a_recursion():
    game = TicTacToe()
    for agent in (lambda states, legal: legal.argmax(1), perfect_agent(game.solve(), 4)):
        table: dict[bytes, int] = {}

        def remembers(states, legal, agent=agent, table=table):  # the answer depends on the state alone
            for state, action in zip(states, agent(states, legal), strict=True):
                table.setdefault(state.tobytes(), int(action))
            return np.array([table[state.tobytes()] for state in states])

        for seat, found in enumerate(play_every_reply(game, remembers, batch_size=7)):
            assert [found.wins, found.draws, found.losses] == plain_games(remembers, seat, game.reset(1)[0], 0).tolist()
            assert bool(found.losses) == bool(len(found.lost))


def test_a_perfect_player_never_loses_on_four_by_four_and_every_mistake_is_counted():
    game = ConnectFour(4, 4)
    solution = game.solve()
    for found in play_every_reply(game, perfect_agent(solution)):
        assert found.losses == 0 and found.num_positions > 500
    assert judge(solution, perfect_agent(solution)).share == 1
    stubborn = judge(solution, lambda states, legal: legal.argmax(1))
    assert 0.3 < stubborn.share_where_it_matters < 0.6 and len(stubborn.mistakes) == round((1 - stubborn.share) * len(solution.states))
    by_chance = judge(solution, random_agent(2))
    assert abs(by_chance.share - by_chance.random_share) < 0.01  # 134,289 draws


def test_the_arena_swaps_seats_and_mirrors():
    game = TicTacToe()
    first, last = (lambda states, legal: legal.argmax(1)), (lambda states, legal: 8 - legal[:, ::-1].argmax(1))
    arena = Arena(game, 60, opening_moves=1, seed=5)
    result, mirror = arena.play(first, last), arena.play(last, first)
    assert result.total == mirror.total[::-1] and sum(result.total) == 60 and result.score == pytest.approx(1 - mirror.score)
    assert result.as_first == mirror.as_second[::-1] and result.num_distinct <= 18  # one random move, two seats
    perfect = perfect_agent(game.solve())
    assert Arena(game, 100).play(perfect, random_agent(1)).interval[0] > 0.5
    draws = Arena(game, 20, opening_moves=0).play(perfect, perfect)
    assert draws.total == (0, 20, 0)


def test_an_interval_that_wilson_would_recognise():
    np.testing.assert_allclose(_wilson_interval(0.5, 100), (0.4038, 0.5962), atol=1e-4)
    assert _wilson_interval(1.0, 10)[0] == pytest.approx(10 / (10 + 1.96**2))


# ------------------------------------------------------------------ tables


@pytest.mark.parametrize(
    ("name", "kwargs", "discount"),
    [
        ("FrozenLake-v1", {}, 1.0),
        ("FrozenLake-v1", {"is_slippery": False}, 0.9),
        ("FrozenLake8x8-v1", {}, 0.97),
        ("CliffWalking-v1", {}, 1.0),
        ("CliffWalking-v1", {"is_slippery": True}, 0.9),
        ("Taxi-v4", {}, 0.9),
    ],
)
def test_optimal_values_equal_value_iteration_in_loops(name, kwargs, discount):
    env = gymnasium.make(name, **kwargs)
    tables, right = read_tables(env), plain_optimal_values(env, discount, num_sweeps=700 if discount == 1 else 250)
    values = optimal_values(tables, discount)
    np.testing.assert_allclose(values[tables.reachable], np.array(right)[tables.reachable], atol=1e-6 if discount == 1 else 1e-3)
    achieved = policy_values(tables, optimal_policy(tables, discount), discount)
    np.testing.assert_allclose(achieved[tables.reachable], values[tables.reachable], atol=1e-9)
    np.testing.assert_allclose(
        optimal_values(tables, discount, horizon=7), plain_optimal_values(env, discount, num_sweeps=7), atol=1e-12
    )  # illegal taxi actions never help


def test_the_known_optimum_of_the_lake():
    tables = read_tables(gymnasium.make("FrozenLake-v1"))
    assert tables.initial @ optimal_values(tables) == pytest.approx(14 / 17, abs=1e-9)  # 0.8235
    assert tables.initial @ optimal_values(tables, horizon=100) == pytest.approx(0.744, abs=5e-4)
    large = read_tables(gymnasium.make("FrozenLake8x8-v1"))
    assert large.initial @ optimal_values(large) == pytest.approx(1.0, abs=1e-6)


def table_of(moves: list[list[tuple[int, float, bool]]]) -> Tables:
    "A world without chance: what follows each action of each state, its reward, and whether that is the end. It begins in state 0."
    next_states, rewards, ends = (np.array([[[move[i]] for move in row] for row in moves]) for i in range(3))
    return Tables(np.ones(rewards.shape), next_states, rewards, ends, np.eye(len(moves))[0], np.ones(rewards.shape[:2], bool))


def test_a_state_out_of_reach_has_its_value_too():
    world = table_of([[(0, 1.0, True)], [(1, -1.0, False)]])
    np.testing.assert_allclose(optimal_values(world, 0.9), [1.0, -10.0])
    assert optimal_values(world)[0] == 1.0  # without a discount it has none


@pytest.mark.parametrize(
    ("moves", "actions"),
    [
        ([[(0, -1.0, True), (1, 0.0, False)], [(0, -1.0, True)] * 2], [0, 0]),  # what costs is not put off
        ([[(0, 0.0, False), (1, 0.0, False)], [(1, 0.0, False), (0, 1.0, True)]], [1, 1]),  # nor what pays
        ([[(1, 0.0, False)] * 2, [(0, 0.0, False), (2, 1.0, False)], [(2, 0.0, False)] * 2], [0, 1, 0]),  # not where nothing ends either
    ],
)
def test_the_best_policy_wastes_no_time(moves, actions):
    assert optimal_policy(table_of(moves)).argmax(1).tolist() == actions


@given(st.integers(2, 6), st.integers(1, 3), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_evaluation_solves_bellmans_equation_and_bounds_every_horizon(num_states, num_actions, seed):
    rng = np.random.default_rng(seed)
    shape = (num_states, num_actions, 2)
    first = rng.choice([0.25, 0.5, 1.0], shape[:2])
    probabilities = np.stack([first, 1 - first], 2)
    tables = Tables(
        probabilities,
        rng.integers(num_states, size=shape),
        rng.choice([0.0, 0.0, 1.0], shape),
        rng.random(shape) < 0.3,
        np.eye(num_states)[0],
        np.ones(shape[:2], bool),
    )
    weights = rng.integers(1, 4, (num_states, num_actions)) / 1.0
    policy = weights / weights.sum(1, keepdims=True)

    def backup(values, discount):  # in loops
        return np.array(
            [
                sum(
                    policy[s, a]
                    * probabilities[s, a, o]
                    * (tables.rewards[s, a, o] + (0 if tables.ends[s, a, o] else discount * values[tables.next_states[s, a, o]]))
                    for a in range(num_actions)
                    for o in range(2)
                    if probabilities[s, a, o]
                )
                for s in range(num_states)
            ]
        )

    values, short, long = (
        policy_values(tables, policy),
        policy_values(tables, policy, horizon=2000),
        policy_values(tables, policy, horizon=4000),
    )
    assert not np.isnan(values).any() and (values >= -1e-12).all()  # rewards are never negative here; the rest is rounding
    np.testing.assert_allclose(backup(values, 1.0)[np.isfinite(values)], values[np.isfinite(values)], atol=1e-9)
    assert (long <= values + 1e-8).all() and (long - short > 1e-9)[np.isinf(values)].all()
    plain = np.zeros(num_states)
    for _ in range(30):
        plain = backup(plain, 0.9)
    np.testing.assert_allclose(policy_values(tables, policy, 0.9, horizon=30), plain, atol=1e-12)
    np.testing.assert_allclose(backup(discounted := policy_values(tables, policy, 0.9), 0.9), discounted, atol=1e-12)


def test_circles_are_found_and_what_ends_is_not_one():
    going = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0.5, 0, 0.5, 0], [0, 0, 0, 0.9]])
    assert _recurrent_states(going).tolist() == [True, True, False, False]


# ------------------------------------------------------------------ Gymnasium in batches


@pytest.mark.parametrize(("name", "kwargs"), [("Taxi-v4", {}), ("CliffWalking-v1", {}), ("FrozenLake-v1", {"is_slippery": False})])
@pytest.mark.parametrize("use_tables", [True, False])
def test_games_follow_gymnasium_step_by_step(name, kwargs, use_tables):
    world, env = GymnasiumWorld(name, use_tables=use_tables, **kwargs), gymnasium.make(name, **kwargs)
    rng, states = np.random.default_rng(0), world.reset(6, seed=3)
    plain = []
    for row in range(6):
        copy = gymnasium.make(name, **kwargs)
        copy.reset(seed=0)
        copy.unwrapped.s = int(world.observe(states)[row].argmax())
        plain.append(copy)
    alive = np.arange(6)
    for _ in range(230):
        legal, actions = world.legal(states), rng.integers(env.action_space.n, size=len(states))
        if "Taxi" in name:
            np.testing.assert_array_equal(legal, [plain[row].unwrapped.action_mask(plain[row].unwrapped.s) for row in alive])
        states, rewards, terminated, truncated = world.step(states, actions)
        seen, right_rewards, right_terminated, right_truncated, _ = zip(
            *(plain[row].step(int(action)) for row, action in zip(alive, actions, strict=True)), strict=True
        )
        np.testing.assert_array_equal(world.observe(states), np.eye(env.observation_space.n)[list(seen)])
        np.testing.assert_array_equal(rewards, np.array(right_rewards, np.float32))
        np.testing.assert_array_equal(terminated, right_terminated)
        np.testing.assert_array_equal(truncated, right_truncated)
        assert not world.legal(states)[terminated | truncated].any()
        states, alive = states[~(terminated | truncated)], alive[~(terminated | truncated)]
        if not len(alive): break
    assert len(alive) == 0 or name == "CliffWalking-v1"  # a taxi is stopped after 200 steps


def test_an_environment_without_a_table_equals_copies_stepped_alone():
    world = GymnasiumWorld("CartPole-v1")
    states, again = world.reset(3, seed=7), GymnasiumWorld("CartPole-v1").reset(3, seed=7)
    np.testing.assert_array_equal(states, again)
    seeds = np.random.SeedSequence(7).generate_state(3, np.uint64) % 2**31
    plain = [gymnasium.make("CartPole-v1") for _ in range(3)]
    seen = np.stack([env.reset(seed=int(seed))[0] for env, seed in zip(plain, seeds, strict=True)])
    for step in range(8):
        np.testing.assert_array_equal(world.observe(states), seen)
        states, *_ = world.step(states, np.array([step % 2, 1, 0]))
        seen = np.stack([env.step(action)[0] for env, action in zip(plain, (step % 2, 1, 0), strict=True)])
    part = states[[2, 0]]
    world.step(part, np.array([0, 1]))
    np.testing.assert_array_equal(world.observe(states[1:2]), seen[1:2])  # the one that waited
    with pytest.raises(ValueError, match="cannot go back"):
        world.step(states, np.array([0, 0, 0]))


def wrapped_lake(name, wrap, **more):
    "A registered lake within a wrapper."
    gymnasium.register(name, lambda **kwargs: wrap(gymnasium.make("FrozenLake-v1", is_slippery=False, **kwargs)), **more)
    return GymnasiumWorld(name)


def test_a_wrapped_environment_is_played_through_its_wrappers_and_not_in_its_table():
    shaped = wrapped_lake("ShapedLake-v0", lambda env: TransformReward(env, lambda reward: float(reward) - 0.25))
    assert shaped.tables is None and shaped.step(shaped.reset(2), np.array([1, 2]))[1].tolist() == [-0.25, -0.25]
    place = lambda cell: np.array([cell // 4, cell % 4], np.float32)
    plane = wrapped_lake("PlaneLake-v0", lambda env: TransformObservation(env, place, spaces.Box(0, 3, (2,))))
    states = plane.step(plane.reset(2), np.array([1, 2]))[0]
    assert plane.observation_shape == (2,) and plane.observe(states).tolist() == [[1, 0], [0, 1]]
    short = wrapped_lake("ShortLake-v0", lambda env: TimeLimit(env, 1), max_episode_steps=50)
    assert short.step(short.reset(1), np.array([0]))[3].tolist() == [True]
    for world in (GymnasiumWorld("FrozenLake-v1"), wrapped_lake("PlainLake-v0", lambda env: env)):
        assert world.tables is not None and world.max_steps == 100


def test_copies_of_finished_games_are_used_again():
    world = GymnasiumWorld("CartPole-v1")
    states = world.reset(4, seed=0)
    for begun in range(30):
        states, _, terminated, truncated = world.step(states, np.zeros(4, int))
        done = terminated | truncated
        if done.any():
            states[done] = world.reset(int(done.sum()), seed=begun)
    assert len(world.games.copies) == 4 and world.legal(states).all()
    world.leave(states[:3])
    assert world.legal(states).any(1).tolist() == [False, False, False, True]
    world.reset(3, seed=1)
    assert len(world.games.copies) == 4
    lake = GymnasiumWorld("FrozenLake-v1")
    lake.leave(lake.reset(2))  # a table holds nothing


def test_whole_games_are_cut_where_that_is_asked_for():
    world = GymnasiumWorld("CartPole-v1")
    for seed in (0, 1):
        episodes = play_episodes(world, lambda states, legal: np.arange(len(states)) % 2, 4, seed=seed, max_moves=5)
        assert episodes.lengths.tolist() == [5] * 4 and episodes.returns.tolist() == [5.0] * 4 and not episodes.terminated.any()
    assert len(world.games.copies) == 4
    with pytest.raises(ValueError, match="must end within 5 steps, 4 did not"):
        play_episodes(world, lambda states, legal: np.arange(len(states)) % 2, 4, max_steps=5)


def test_chance_is_in_the_state_alone():
    world = GymnasiumWorld("FrozenLake-v1")
    assert not np.array_equal(world.reset(5, seed=0)[:, 3], world.reset(5, seed=1)[:, 3])
    states = world.reset(400, seed=0)
    one, two = world.step(states, np.full(400, 2)), world.step(states, np.full(400, 2))
    for left, right in zip(one, two, strict=True):
        np.testing.assert_array_equal(left, right)
    order = np.random.default_rng(0).permutation(400)
    np.testing.assert_array_equal(world.step(states[order], np.full(400, 2))[0], one[0][order])


def test_simulated_games_agree_with_the_exact_value():
    world = GymnasiumWorld("FrozenLake-v1", max_episode_steps=20)
    policy = np.random.default_rng(0).dirichlet(np.ones(4), 16)
    exact, rng = world.tables.initial @ policy_values(world.tables, policy, horizon=20), np.random.default_rng(1)
    draw = lambda states, legal: (rng.random((len(states), 1)) > policy.cumsum(1)[states[:, 0]]).sum(1)
    episodes = play_episodes(world, draw, 20_000)
    assert abs(episodes.returns.mean() - exact) < 4 * max(episodes.returns.std(), 0.01) / 20_000**0.5
    assert episodes.lengths.max() == 20 and not episodes.terminated[(episodes.lengths == 20) & (episodes.returns == 0)].all()


class Moody(gymnasium.Env):
    "Raises, pays nan or shows nan, as the action says."

    observation_space, action_space = spaces.Tuple([spaces.Discrete(2), spaces.Box(-1, 1, (2,))]), spaces.Discrete(4, start=5)

    def reset(self, *, seed=None, options=None):
        return (0, np.zeros(2, np.float32)), {}

    def step(self, action):
        if action == 6: raise RuntimeError("in a mood")
        return (
            (1, np.full(2, np.nan if action == 8 else 0.5, np.float32)),
            float("nan") if action == 7 else 2.0,
            False,
            False,
            {"action_mask": np.array([1, 0, 0, 1])},
        )


gymnasium.register("Moody-v0", Moody, disable_env_checker=True)


@pytest.mark.parametrize(("action", "word"), [(1, "in a mood"), (2, "a reward must be finite"), (3, "an observation must be finite")])
def test_a_broken_environment_costs_its_own_game_only(action, word):
    world = GymnasiumWorld("Moody-v0")
    assert world.observation_shape == (4,) and world.num_actions == 4
    states = world.reset(3, seed=0)
    with pytest.raises(GameFailure, match=f"game 1 failed.*{word}") as caught:
        world.step(states, np.array([0, action, 0]))
    states, rewards, terminated, truncated = caught.value.outcome
    assert (rewards.tolist(), truncated.tolist(), terminated.any()) == ([2, 0, 2], [False, True, False], False)
    assert world.legal(states).tolist() == [[True, False, False, True], [False] * 4, [True, False, False, True]]
    states[truncated] = world.reset(1, seed=1)
    after, rewards, *_ = world.step(states, np.zeros(3, int))
    assert rewards.tolist() == [2, 2, 2] and np.isfinite(world.observe(after)).all()


@pytest.mark.parametrize(
    ("mask", "said"), [([0, 0, 0, 0], "must leave one action open"), ([1, 1, 1], "must hold 4 numbers, got"), ([], "")]
)
def test_a_mask_that_fits_no_game_is_the_environments_failure(mask, said):
    class Masked(Moody):
        def reset(self, *, seed=None, options=None):
            return super().reset()[0], {"action_mask": np.array(mask)} if mask else {}

        def step(self, action):
            return super().reset()[0], 0.0, action == 5, False, {"action_mask": np.zeros(4)}

    gymnasium.register(f"Masked{len(mask)}-v0", Masked, disable_env_checker=True)
    world = GymnasiumWorld(f"Masked{len(mask)}-v0")
    if mask:
        with pytest.raises(EnvironmentFailure, match=said):
            world.reset(1)
        return
    assert world.step(world.reset(1), np.array([0]))[2].all(), "at the end nothing need be open"
    with pytest.raises(GameFailure, match="must leave one action open"):
        world.step(world.reset(1), np.array([1]))


def test_an_observation_of_another_shape_is_named():
    class Wider(gymnasium.Env):
        observation_space, action_space = spaces.Box(-1, 1, (3,)), spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return np.zeros(2, np.float32), {}

    gymnasium.register("Wider-v0", Wider, disable_env_checker=True)
    with pytest.raises(EnvironmentFailure, match=r"must have the shape \(3,\), got \(2,\)"):
        GymnasiumWorld("Wider-v0").reset(1)


@pytest.mark.parametrize(
    "name", ["chess", "connect_four:4", "connect_four:0x4", "connect_four:3x3", "tic_tac_toe:3", "Pendulum-v1", "nowhere:Lost-v0", ""]
)
def test_names_that_mean_no_world_are_one_clear_line(name):
    with pytest.raises(ValueError) as caught:
        make_world(name)
    assert len(str(caught.value).splitlines()) == 1 and caught.value.__suppress_context__ | (caught.value.__context__ is None)


def test_names_that_mean_a_world():
    assert isinstance(make_world("tic_tac_toe"), TicTacToe) and make_world("connect_four:5x6").observation_shape == (2, 5, 6)
    assert make_world("FrozenLake-v1").observation_shape == (16,) and make_world("Blackjack-v1").num_actions == 2
