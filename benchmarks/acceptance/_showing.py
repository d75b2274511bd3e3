"""What these scripts print of each claim: PASS or MISSED, what was measured, what was asked."""


def show(what: str, measured: str, asked: str, passed: bool) -> bool:
    print(f"{'PASS' if passed else 'MISSED':6}  {what}: {measured} (asked: {asked})", flush=True)
    return passed


def at_least(what: str, value: float, asked: float, unit: str = "", note: str = "") -> bool:
    return show(what, f"{value:.2f}{unit}{note}", f"at least {asked:g}{unit}", value >= asked)


def at_most(what: str, value: float, asked: float, unit: str = "", note: str = "") -> bool:
    return show(what, f"{value:.2f}{unit}{note}", f"at most {asked:g}{unit}", value <= asked)
