"""What is true in a moment: asked again until it is, and a failure that says what was found instead."""
import ast
import inspect
import time


class Eventually:
    """eventually(question) asks until there is a true answer, and answers it. When time is up, the test has failed.

    The time is long, for a busy machine: who is answered does not wait for it. `missing` is asked at the end what there is to say.
    """

    def __call__(self, question, timeout_s=20, every_s=0.02, missing=None):
        deadline = time.monotonic() + timeout_s
        while True:
            answer = question()
            if answer:
                return answer
            if time.monotonic() > deadline:
                raise AssertionError(f"not after {timeout_s} s: {missing() if missing else what_was_found(question, answer)}")
            time.sleep(every_s)


def what_was_found(question, answer):
    """The text of the question and the values that it compares. They are looked up once more: it has failed, so nothing is spoilt."""
    asked, tree = source(question)
    outer = inspect.getclosurevars(question) if tree else None
    found = [f"{asked} answered {cut(repr(answer), 500)}"]
    for part in compared(tree):
        try:
            value = eval(compile(ast.Expression(part), "question", "eval"), {**outer.builtins, **outer.globals, **outer.nonlocals})
        except Exception as error:   # Whatever it was, the question's own answer is told.
            value = error
        found.append(f"  {ast.unparse(part)} is {cut(repr(value), 2000)}")
    return "\n".join(found)


def source(question):
    """(text, tree) of what a lambda asks; no tree where no telling is which of a line's lambdas it is."""
    try:
        text = inspect.getsource(question).strip()
    except (OSError, TypeError):
        return repr(question), None
    if text.count("lambda") == 1:
        begin = text.index("lambda")
        for end in range(len(text), begin, -1):
            try:
                tree = ast.parse(text[begin:end], mode="eval").body
            except SyntaxError:
                continue
            if isinstance(tree, ast.Lambda):
                return ast.unparse(tree.body), tree.body
    return text, None


def compared(tree):
    """What is compared, both sides of it, but for what is written out in the question."""
    if isinstance(tree, ast.Compare):
        return [side for side in (tree.left, *tree.comparators) if any(isinstance(part, ast.Name) for part in ast.walk(side))]
    if isinstance(tree, ast.BoolOp):
        return [part for value in tree.values for part in compared(value)]
    return []


def cut(text, size):
    return text if len(text) <= size else f"{text[:size // 2]} … {text[-size // 2:]}"
