"""The house is built as it is drawn: imports run one way, and its parts agree."""

import ast
import graphlib
import inspect
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import optax
import optax.contrib
import pytest
from cases import CASES, READY_MADE

import gdfx
from gdfx.catalog import METHODS
from gdfx.core.arguments import method_name, rules

HOUSE = Path(gdfx.__file__).parent
ROOT = Path(__file__).parents[1]
MODULES = [path.relative_to(HOUSE) for path in sorted(HOUSE.rglob("*.py"))]

# Which rooms a room may look into, besides itself.
SEES = {
    "core": set(),
    "methods": {"core", "wrappers"},
    "dialects": {"core"},
    "wrappers": {"core"},
    "onepass": {"core"},
    "catalog": {"core", "methods", "dialects"},
    "port": {"core", "dialects", "methods", "wrappers"},
    "__init__": {"core", "methods", "dialects", "wrappers", "onepass", "catalog", "port"},
    "lookup": {"core", "catalog"},
    "files": {"lookup"},
    "testing": {"core", "catalog", "lookup"},
    "lab": {"core", "catalog", "files", "lookup", "wrappers", "__init__"},
    "cli": {"core", "catalog", "files", "lookup", "testing", "lab", "__init__"},
    "__main__": {"cli"},
}
WITH_EXTRAS = {"__main__", "testing", "lab", "cli"}  # what these import, `import gdfx` never does
NEEDS = {"jax", "numpy", "optax"}  # NumPy comes with JAX
EXTRAS = ["hypothesis", "llvmlite", "matplotlib", "mlxtend", "plotly"]
EXTRAS += ["rich", "sklearn", "typer", "torch"]

# Parts of methods, which optax has under the same names or as optax.ema.
LINKS = {"clip_by_block_rms", "running_mean", "scale_by_param_block_rms"}

# Second calls of methods, beside ``update``.
SECOND = {"update_hessian"}

METHODS_THAT_MATCH = [case for case in READY_MADE if case.method.matches]


def room(parts):
    return parts[0].removesuffix(".py") if parts else "__init__"


def imported(path):
    for node in ast.walk(ast.parse((HOUSE / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            # What is imported from a package may be a module.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_run_one_way(path):
    here = room(path.parts)
    for name in imported(path):
        package, *rest = name.split(".")
        if package == "gdfx":
            there = room(rest) if room(rest) in SEES else "__init__"
            assert there == here or there in SEES[here], f"{path} imports {name}"
        elif here not in WITH_EXTRAS:
            assert package in NEEDS | sys.stdlib_module_names, f"{path} imports {name}"


def dotted(path):
    """``gdfx.lab.plot`` for lab/plot.py."""
    return ".".join(("gdfx", *path.with_suffix("").parts)).removesuffix(".__init__")


def owner(name, modules):
    """The module that an imported name is, or is defined in; None outside the house."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def circle(house):
    """Modules that import each other in a circle, be it in a function or under TYPE_CHECKING."""
    modules = {dotted(path.relative_to(house)): path for path in house.rglob("*.py")}
    graph = {
        module: {owner(name, modules) for name in imported(path)} - {None}
        for module, path in modules.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_no_modules_import_each_other_in_a_circle():
    assert circle(HOUSE) == []


@pytest.mark.parametrize(
    "back",
    [
        "from gdfx.lab.top import Result",
        "from gdfx.lab import top",
        "from gdfx.lab import Result",
        "import gdfx.lab.top",
    ],
)
def test_a_circle_for_the_type_checker_alone_is_found(tmp_path, back):
    lab = tmp_path / "lab"
    lab.mkdir()
    (lab / "__init__.py").write_text("from gdfx.lab.top import Result as Result\n")
    (lab / "top.py").write_text("from gdfx.lab import base\n")
    (lab / "base.py").write_text("import math\n")
    assert circle(tmp_path) == []
    (lab / "base.py").write_text(f"if TYPE_CHECKING:\n    {back}\n")
    assert {"gdfx.lab.base", "gdfx.lab.top"} <= set(circle(tmp_path))


def test_every_room_is_drawn():
    assert {room(path.parts) for path in MODULES} <= set(SEES)


def test_import_loads_no_extra():
    code = f"import sys, gdfx; sys.exit([m for m in {EXTRAS} if m in sys.modules] or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_import_loads_little_beyond_optax():
    """Only gdfx's own modules, and none of the lab's."""
    code = (
        "import sys, jax, optax; before = set(sys.modules); import gdfx;"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    new = done.stdout.split()
    assert "gdfx.core.lift" in new
    rooms = {name.split(".")[1] for name in new if "." in name and name.startswith("gdfx")}
    assert not rooms & WITH_EXTRAS
    third_party = {name.split(".")[0] for name in new} - sys.stdlib_module_names
    assert third_party == {"gdfx"}


def test_a_copied_folder_is_imported(tmp_path):
    """Without metadata, as in a frozen bundle: the folder itself knows its version."""
    shutil.copytree(HOUSE, tmp_path / "gdfx", ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import importlib.metadata as metadata;"
        "metadata.distribution = None;"  # to ask for them is an error
        "import gdfx; print(gdfx.__file__, gdfx.__version__)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == [str(tmp_path / "gdfx" / "__init__.py"), gdfx.__version__], (
        done.stderr
    )


def public(module):
    return {name for name, x in vars(module).items() if name[0] != "_" and not inspect.ismodule(x)}


def functions(package):
    """The public functions that a package's modules define themselves."""
    inside = (m for name, m in sys.modules.items() if name.startswith(f"{package.__name__}."))
    return [
        function
        for module in inside
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and name[0] != "_"
    ]


def defined(package):
    """Their names."""
    return {function.__name__ for function in functions(package)}


def test_the_public_names_are_the_catalogs():
    methods = {name for name in METHODS if "." not in name}
    directions = {
        direction.__name__
        for m in METHODS.values()
        for direction in (m.direction, *m.directions)
        if direction is not None
    }
    wrappers = defined(gdfx.wrappers)
    others = {"METHODS", "MatrixAxes", "descend", "eval_params", "layout", "matrix_table"}
    others |= {"one_pass", "per_leaf", "per_matrix"}
    assert public(gdfx) == methods | directions | SECOND | wrappers | others
    assert defined(gdfx.methods) == methods | directions | SECOND | LINKS
    dialects = {method_name(f) for f in functions(gdfx.dialects) if rules(f)}
    assert dialects == {n for n in METHODS if "." in n}
    for name, method in METHODS.items():
        assert method.name == name
        owner = getattr(gdfx, method.dialect) if method.dialect else gdfx
        assert getattr(owner, method.factory.__name__) is method.factory
        assert method.form is None or method.form in methods


def parameters(factory):
    return inspect.signature(factory).parameters


def theirs(factory):
    """The parameters of optax's of the same name, or of that which the record names."""
    record = METHODS[method_name(factory)]
    known = record.matches or record.beside or f"optax.{record.name}"
    package, _, name = known.rpartition(".")
    home = {"optax": optax, "optax.contrib": optax.contrib}.get(package)
    return parameters(getattr(home, name)) if hasattr(home, name) else {}


@pytest.mark.parametrize("case", READY_MADE, ids=str)
def test_direction_and_optimizer_agree(case):
    """On defaults, unless optax's optimizer has that other one too."""
    ours, direction = parameters(case.factory), parameters(case.method.direction or case.factory)
    shared = {name: ours[name].default for name in direction if name in ours}
    others = {name for name in shared if shared[name] != direction[name].default}
    assert [n for n in others if shared[n] != theirs(case.factory)[n].default] == []


@pytest.mark.parametrize("case", CASES, ids=str)
def test_arguments_mean_the_same_everywhere(case):
    for name, parameter in parameters(case.factory).items():
        if parameter.default is not inspect.Parameter.empty:
            rules(case.factory)[name].check("default", name, parameter.default)


def is_same(ours, theirs):
    """Functions are the same where they return the same."""
    both = inspect.isfunction(ours) and inspect.isfunction(theirs)
    return ours(81.0) == theirs(81.0) if both else ours == theirs


@pytest.mark.parametrize("case", METHODS_THAT_MATCH, ids=str)
def test_drop_in_for_optax(case):
    """Shared arguments have optax's defaults and order; the start states are alike."""
    names = theirs(case.factory)
    shared = [name for name in parameters(case.factory) if name in names]
    assert shared == [name for name in names if name in shared]
    for name in shared:
        ours = parameters(case.factory)[name]
        assert ours.kind == names[name].kind, name
        # Where optax has None for a learning rate, it climbs.
        given = name == "learning_rate" and names[name].default is None
        assert is_same(ours.default, names[name].default) or given, name
    if case.method.form is None:
        params = {"w": jax.numpy.ones(2)}
        state, reference = case.tx.init(params), case.method.reference(0.1).init(params)
        assert jax.tree.structure(state) == jax.tree.structure(reference)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_docstrings_have_their_sections(case):
    doc = inspect.getdoc(case.factory)
    summary, blank, *_ = doc.split("\n")
    assert summary.endswith(".")
    assert blank == ""
    arguments = doc.partition("Args:")[2].partition("\n\n")[0]
    for name in parameters(case.factory):
        assert name in arguments, f"{name} is not described"
    if case.method.form is not None:
        sections = ["(1)", "Reference:"]
    elif case.factory in (case.method.direction or case.factory, *case.method.directions):
        sections = ["(1)", "Raises:", "Differs:", "Reference:"]
    else:
        sections = ["Purpose:", "See also:"]
    assert [s for s in sections if s not in doc] == []


@pytest.mark.parametrize("case", READY_MADE, ids=str)
def test_records_are_complete(case):
    assert case.method.equation
    assert case.method.source
    assert case.method.summary.endswith(".")


def code_lines(path):
    """The lines of a file that say something: no imports, signatures, comments, docstrings."""
    source = path.read_text()
    quiet = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            quiet |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
        if isinstance(node, ast.Import | ast.ImportFrom):
            quiet |= set(range(node.lineno, node.end_lineno + 1))
        if isinstance(node, ast.FunctionDef):
            quiet |= set(range(node.lineno + 1, node.body[0].lineno))
        if isinstance(node, ast.keyword) and isinstance(node.value, ast.Name):
            quiet |= {node.lineno} if node.arg == node.value.id else set()  # handed on
    lines = enumerate(source.splitlines(), start=1)
    return sum(
        1 for i, text in lines if i not in quiet and text.strip() and text.strip()[0] not in "#)"
    )


@pytest.mark.parametrize("path", sorted((HOUSE / "methods").rglob("*.py")), ids=lambda p: p.name)
def test_a_method_file_is_short(path):
    assert code_lines(path) <= 100


def test_typed():
    assert (HOUSE / "py.typed").exists()


def test_versions_are_said_alike():
    """Floors, the pins of the oldest set, the README and the Pythons of the workflow."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    floors = [requirement.split(">=") for requirement in project["dependencies"]]
    pins = (ROOT / ".ci" / "oldest.txt").read_text()
    for name, lowest in floors:
        assert re.search(rf"^{name}=={re.escape(lowest)}(;|$)", pins, re.MULTILINE), name
    pythons = [c.split()[-1] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert project["requires-python"] == f">={pythons[0]}"
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert re.search(r"python: \[(.*)\]", workflow)[1] == ", ".join(f'"{p}"' for p in pythons)
    floor = dict(floors)
    said = [
        f"Python {pythons[0]} to {pythons[-1]}",
        f"JAX {floor['jax']} and optax {floor['optax']}",
    ]
    for page in ("README.md", "docs/index.md"):
        text = " ".join((ROOT / page).read_text().split())
        assert [words for words in said if words not in text] == [], page
