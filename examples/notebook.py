"""The Python API: search, front, plot, the best network under a limit; then a function of one's own."""

from __future__ import annotations

from archfront import Study
from archfront.spaces import Real, SearchSpace


def main() -> None:
    """Two searches into archfront.db in the working folder."""
    with Study("laptop", space="mlp", objectives=["error", "latency_ms@cpu"], epochs=3, seed=0) as study:
        print(study.run(trials=12))
        front = study.front(device="cpu")
        front.plot("front.png")
        best = front.best("error", latency_ms=2.0)
        print(best.key[:12], best.metrics)
        print(best.load())
    with Study("mine", space=SearchSpace(Real("x", 0, 1)), objectives=["loss:min"]) as mine:
        mine.run(trials=50, evaluate=lambda config, *, seed, budget, report: {"loss": (config["x"] - 0.3) ** 2})
        print(mine.front()[0].config)


if __name__ == "__main__":
    main()
