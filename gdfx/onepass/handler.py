"""A loop as a whole LLVM module: a handler that XLA calls with the arrays of several leaves.

A call has the scalars first, then the arrays of each leaf. The elements of all leaves are cut into
chunks. The thread that is called and tasks of XLA's own pool take them from one counter; the
caller waits for chunks that somebody works on, never for a task that has not begun. So a pass ends
whatever the pool does: with one thread, with several devices, with callers that all wait.
"""

from collections.abc import Iterable
from string import Template

from gdfx.onepass.emit import MEMORY, Body, loop_body
from gdfx.onepass.interface import Interface
from gdfx.onepass.loop import Loop

NAME = "HANDLER"
"""What stands in the text for the handler's name, which is made of the text."""

LANES = 8  # elements a turn
CHUNK = 16_384  # elements that a thread takes at a time
SERIAL = 65_536  # with fewer elements in a call, waking a thread costs more than it saves


def module(loop: Loop, interface: Interface) -> str:
    """The LLVM text of a handler that runs the loop."""
    vector, single = Body(LANES, "v"), Body(1, "s")
    chunk = _chunk(loop, interface, vector, single)
    handler = Template(_HANDLER).substitute(
        interface.numbers,
        name=NAME,
        scalars=len(loop.scalars),
        arrays=len(loop.arrays),
        results=len(loop.results),
        chunk=CHUNK,
        serial=SERIAL,
        scalar_checks=_checks("s", "%args", "%arg_types", "0", interface, loop.scalars, "1"),
        array_checks=_checks("a", "%args", "%arg_types", "%array", interface, loop.arrays, "%n"),
        result_checks=_checks("r", "%rets", "%ret_types", "%result", interface, loop.written, "%n"),
    )
    declared = sorted(vector.declared | single.declared)
    return "\n".join([handler, chunk, *declared, ""])


def _checks(
    tag: str,
    buffers: str,
    types: str,
    first: str,
    interface: Interface,
    dtypes: Iterable[str],
    elements: str,
) -> str:
    """Whether each buffer is one, of that dtype and that many elements: ``%TAG_fit``."""
    lines = [f"%{tag}_fit0 = or i1 true, true"]
    count = 0
    for count, dtype in enumerate(dtypes, start=1):
        place = f"%{tag}_at{count}"
        code = interface.dtypes[dtype]
        lines += [
            f"{place} = add i64 {first}, {count - 1}",
            f"%{tag}_is{count} = call i1 @fits("
            f"ptr {buffers}, ptr {types}, i64 {place}, i32 {code}, i64 {elements})",
            f"%{tag}_fit{count} = and i1 %{tag}_fit{count - 1}, %{tag}_is{count}",
        ]
    return "\n  ".join([*lines, f"%{tag}_fit = or i1 %{tag}_fit{count}, false"])


def _chunk(loop: Loop, interface: Interface, vector: Body, single: Body) -> str:
    """The function that runs the loop on a part of one leaf."""
    data = interface.numbers["Buffer_data"]
    entry = [
        f"%array = mul i64 %leaf, {len(loop.arrays)}",
        f"%first = add i64 %array, {len(loop.scalars)}",
        f"%result = mul i64 %leaf, {len(loop.results)}",
    ]
    for i, dtype in enumerate(loop.scalars):
        kind = MEMORY[dtype]
        entry += _pointer(f"x{i}", "%args", str(i), data)
        entry.append(f"%x{i} = load {kind}, ptr %x{i}.data")
        for body in (vector, single):
            v = body.vector(kind)
            entry += [
                f"%x{i}.one{body.tag} = insertelement {v} poison, {kind} %x{i}, i64 0",
                f"%x{i}.{body.tag} = shufflevector {v} %x{i}.one{body.tag}, {v} poison, "
                f"<{body.lanes} x i32> zeroinitializer",
            ]
    for tag, buffers, first, count in (
        ("a", "%args", "%first", len(loop.arrays)),
        ("r", "%rets", "%result", len(loop.results)),
    ):
        for i in range(count):
            entry.append(f"%{tag}{i}.place = add i64 {first}, {i}")
            entry += _pointer(f"{tag}{i}", buffers, f"%{tag}{i}.place", data)
    for body, index in ((vector, "%i"), (single, "%j")):
        _turn(loop, body, index)
        entry += body.ahead
    return Template(_CHUNK).substitute(
        entry="\n  ".join(entry),
        lanes=LANES,
        vector="\n  ".join(vector.lines),
        single="\n  ".join(single.lines),
    )


def _pointer(name: str, buffers: str, place: str, data: int) -> list[str]:
    """Where a buffer's elements lie: ``%NAME.data``."""
    return [
        f"%{name}.slot = getelementptr ptr, ptr {buffers}, i64 {place}",
        f"%{name}.buffer = load ptr, ptr %{name}.slot",
        f"%{name}.field = getelementptr i8, ptr %{name}.buffer, i64 {data}",
        f"%{name}.data = load ptr, ptr %{name}.field",
    ]


def _turn(loop: Loop, body: Body, index: str) -> None:
    """Read, compute, write: the arrays at one index."""
    arrays = [
        body.new(f"load {body.vector(MEMORY[dtype])}, ptr {_at(body, f'a{i}', dtype, index)}, "
                 f"align {_bytes(dtype)}")
        for i, dtype in enumerate(loop.arrays)
    ]  # fmt: skip
    scalars = [f"%x{i}.{body.tag}" for i in range(len(loop.scalars))]
    results = loop_body(loop, body, scalars, arrays)
    for i, (dtype, value) in enumerate(zip(loop.written, results, strict=True)):
        where = _at(body, f"r{i}", dtype, index)
        body.lines.append(
            f"store {body.vector(MEMORY[dtype])} {value}, ptr {where}, align {_bytes(dtype)}"
        )


def _at(body: Body, name: str, dtype: str, index: str) -> str:
    return body.new(f"getelementptr {MEMORY[dtype]}, ptr %{name}.data, i64 {index}")


def _bytes(dtype: str) -> int:
    return {"i8": 1, "i16": 2, "half": 2, "i32": 4, "float": 4, "i64": 8, "double": 8}[
        MEMORY[dtype]
    ]


_CHUNK = """
define internal void @run_chunk(ptr %args, ptr %rets, i64 %leaf, i64 %begin, i64 %end) noinline {
entry:
  $entry
  br label %vectors
vectors:
  %i = phi i64 [%begin, %entry], [%i.next, %vector]
  %i.next = add i64 %i, $lanes
  %whole = icmp ule i64 %i.next, %end
  br i1 %whole, label %vector, label %singles
vector:
  $vector
  br label %vectors
singles:
  %j = phi i64 [%i, %vectors], [%j.next, %single]
  %j.next = add i64 %j, 1
  %left = icmp ult i64 %j, %end
  br i1 %left, label %single, label %exit
single:
  $single
  br label %singles
exit:
  ret void
}
"""

# A job is what the threads of a call share: next chunk, chunks done, who holds it, chunks, leaves,
# args, rets. Behind it lie the first chunk of each leaf, and of none, and each leaf's size.
_HANDLER = """
declare ptr @malloc(i64)
declare void @free(ptr)
declare i32 @sched_yield()

%Job = type {i64, i64, i64, i64, i64, ptr, ptr}
@message = private constant [53 x i8] c"gdfx.one_pass: a buffer does not belong to this pass\\00"

define internal i64 @elements(ptr %buffer) {
entry:
  %rank.field = getelementptr i8, ptr %buffer, i64 $Buffer_rank
  %rank = load i64, ptr %rank.field
  %dims.field = getelementptr i8, ptr %buffer, i64 $Buffer_dims
  %dims = load ptr, ptr %dims.field
  br label %axes
axes:
  %i = phi i64 [0, %entry], [%i.next, %axis]
  %n = phi i64 [1, %entry], [%n.next, %axis]
  %more = icmp slt i64 %i, %rank
  br i1 %more, label %axis, label %exit
axis:
  %place = getelementptr i64, ptr %dims, i64 %i
  %size = load i64, ptr %place
  %n.next = mul i64 %n, %size
  %i.next = add i64 %i, 1
  br label %axes
exit:
  ret i64 %n
}

define internal i1 @fits(ptr %buffers, ptr %types, i64 %place, i32 %dtype, i64 %n) {
  %type.slot = getelementptr i32, ptr %types, i64 %place
  %type = load i32, ptr %type.slot
  %is.buffer = icmp eq i32 %type, $ArgType_BUFFER
  br i1 %is.buffer, label %look, label %no
look:
  %slot = getelementptr ptr, ptr %buffers, i64 %place
  %buffer = load ptr, ptr %slot
  %dtype.field = getelementptr i8, ptr %buffer, i64 $Buffer_dtype
  %its.dtype = load i32, ptr %dtype.field
  %same.dtype = icmp eq i32 %its.dtype, %dtype
  %its.n = call i64 @elements(ptr %buffer)
  %same.n = icmp eq i64 %its.n, %n
  %both = and i1 %same.dtype, %same.n
  ret i1 %both
no:
  ret i1 false
}

define internal void @run_job(ptr %job) {
entry:
  %done.field = getelementptr %Job, ptr %job, i64 0, i32 1
  %chunks.field = getelementptr %Job, ptr %job, i64 0, i32 3
  %chunks = load i64, ptr %chunks.field
  %leaves.field = getelementptr %Job, ptr %job, i64 0, i32 4
  %leaves = load i64, ptr %leaves.field
  %args.field = getelementptr %Job, ptr %job, i64 0, i32 5
  %args = load ptr, ptr %args.field
  %rets.field = getelementptr %Job, ptr %job, i64 0, i32 6
  %rets = load ptr, ptr %rets.field
  %firsts = getelementptr %Job, ptr %job, i64 1
  %bounds = add i64 %leaves, 1
  %sizes = getelementptr i64, ptr %firsts, i64 %bounds
  br label %take
take:
  %leaf = phi i64 [0, %entry], [%l, %run]
  %chunk = atomicrmw add ptr %job, i64 1 acq_rel
  %is.one = icmp ult i64 %chunk, %chunks
  br i1 %is.one, label %find, label %exit
find:
  %l = phi i64 [%leaf, %take], [%l.next, %find]
  %l.next = add i64 %l, 1
  %bound.slot = getelementptr i64, ptr %firsts, i64 %l.next
  %bound = load i64, ptr %bound.slot
  %is.here = icmp ult i64 %chunk, %bound
  br i1 %is.here, label %run, label %find
run:
  %first.slot = getelementptr i64, ptr %firsts, i64 %l
  %first = load i64, ptr %first.slot
  %k = sub i64 %chunk, %first
  %begin = mul i64 %k, $chunk
  %size.slot = getelementptr i64, ptr %sizes, i64 %l
  %size = load i64, ptr %size.slot
  %full = add i64 %begin, $chunk
  %is.full = icmp ult i64 %full, %size
  %end = select i1 %is.full, i64 %full, i64 %size
  call void @run_chunk(ptr %args, ptr %rets, i64 %l, i64 %begin, i64 %end)
  %done = atomicrmw add ptr %done.field, i64 1 acq_rel
  br label %take
exit:
  ret void
}

define internal void @leave(ptr %job) {
  %holders.field = getelementptr %Job, ptr %job, i64 0, i32 2
  %holders = atomicrmw sub ptr %holders.field, i64 1 acq_rel
  %is.last = icmp eq i64 %holders, 1
  br i1 %is.last, label %drop, label %exit
drop:
  call void @free(ptr %job)
  br label %exit
exit:
  ret void
}

define internal void @task(ptr %job) {
  call void @run_job(ptr %job)
  call void @leave(ptr %job)
  ret void
}

define internal void @forget(ptr %api, ptr %error) {
  %request = alloca [$size_Error_Destroy_Args x i8], align 8
  store i64 $size_Error_Destroy_Args, ptr %request
  %extension = getelementptr i8, ptr %request, i64 $Error_Destroy_Args_extension_start
  store ptr null, ptr %extension
  %error.field = getelementptr i8, ptr %request, i64 $Error_Destroy_Args_error
  store ptr %error, ptr %error.field
  %destroy.field = getelementptr i8, ptr %api, i64 $Api_XLA_FFI_Error_Destroy
  %destroy = load ptr, ptr %destroy.field
  call void %destroy(ptr %request)
  ret void
}

define internal i64 @threads(ptr %api, ptr %context) {
  %count = alloca i64
  store i64 1, ptr %count
  %request = alloca [$size_ThreadPool_NumThreads_Args x i8], align 8
  store i64 $size_ThreadPool_NumThreads_Args, ptr %request
  %extension = getelementptr i8, ptr %request, i64 $ThreadPool_NumThreads_Args_extension_start
  store ptr null, ptr %extension
  %context.field = getelementptr i8, ptr %request, i64 $ThreadPool_NumThreads_Args_ctx
  store ptr %context, ptr %context.field
  %count.field = getelementptr i8, ptr %request, i64 $ThreadPool_NumThreads_Args_num_threads
  store ptr %count, ptr %count.field
  %ask.field = getelementptr i8, ptr %api, i64 $Api_XLA_FFI_ThreadPool_NumThreads
  %ask = load ptr, ptr %ask.field
  %error = call ptr %ask(ptr %request)
  %fine = icmp eq ptr %error, null
  br i1 %fine, label %known, label %unknown
known:
  %n = load i64, ptr %count
  ret i64 %n
unknown:
  call void @forget(ptr %api, ptr %error)
  ret i64 1
}

define internal void @share(ptr %api, ptr %context, ptr %job, i64 %chunks) {
entry:
  %holders.field = getelementptr %Job, ptr %job, i64 0, i32 2
  %request = alloca [$size_ThreadPool_Schedule_Args x i8], align 8
  store i64 $size_ThreadPool_Schedule_Args, ptr %request
  %extension = getelementptr i8, ptr %request, i64 $ThreadPool_Schedule_Args_extension_start
  store ptr null, ptr %extension
  %context.field = getelementptr i8, ptr %request, i64 $ThreadPool_Schedule_Args_ctx
  store ptr %context, ptr %context.field
  %task.field = getelementptr i8, ptr %request, i64 $ThreadPool_Schedule_Args_task
  store ptr @task, ptr %task.field
  %job.field = getelementptr i8, ptr %request, i64 $ThreadPool_Schedule_Args_data
  store ptr %job, ptr %job.field
  %schedule.field = getelementptr i8, ptr %api, i64 $Api_XLA_FFI_ThreadPool_Schedule
  %schedule = load ptr, ptr %schedule.field
  %threads = call i64 @threads(ptr %api, ptr %context)
  %fewer = icmp slt i64 %threads, %chunks
  %workers = select i1 %fewer, i64 %threads, i64 %chunks
  br label %next
next:
  %i = phi i64 [1, %entry], [%i.next, %send]
  %i.next = add i64 %i, 1
  %more = icmp slt i64 %i, %workers
  br i1 %more, label %send, label %exit
send:
  %holders = atomicrmw add ptr %holders.field, i64 1 acq_rel
  %error = call ptr %schedule(ptr %request)
  %fine = icmp eq ptr %error, null
  br i1 %fine, label %next, label %refused
refused:
  %back = atomicrmw sub ptr %holders.field, i64 1 acq_rel
  call void @forget(ptr %api, ptr %error)
  br label %exit
exit:
  ret void
}

define internal ptr @refuse(ptr %api) {
  %request = alloca [$size_Error_Create_Args x i8], align 8
  store i64 $size_Error_Create_Args, ptr %request
  %extension = getelementptr i8, ptr %request, i64 $Error_Create_Args_extension_start
  store ptr null, ptr %extension
  %message.field = getelementptr i8, ptr %request, i64 $Error_Create_Args_message
  store ptr @message, ptr %message.field
  %code.field = getelementptr i8, ptr %request, i64 $Error_Create_Args_errc
  store i32 $Error_Code_INVALID_ARGUMENT, ptr %code.field
  %create.field = getelementptr i8, ptr %api, i64 $Api_XLA_FFI_Error_Create
  %create = load ptr, ptr %create.field
  %error = call ptr %create(ptr %request)
  ret ptr %error
}

define internal void @describe(ptr %extension) {
  %metadata.field = getelementptr i8, ptr %extension, i64 $Metadata_Extension_metadata
  %metadata = load ptr, ptr %metadata.field
  %version = getelementptr i8, ptr %metadata, i64 $Metadata_api_version
  %major = getelementptr i8, ptr %version, i64 $Api_Version_major_version
  store i32 $major, ptr %major
  %minor = getelementptr i8, ptr %version, i64 $Api_Version_minor_version
  store i32 $minor, ptr %minor
  %traits = getelementptr i8, ptr %metadata, i64 $Metadata_traits
  store i32 0, ptr %traits
  ret void
}

define ptr @$name(ptr %frame) {
entry:
  %extension.field = getelementptr i8, ptr %frame, i64 $CallFrame_extension_start
  %extension = load ptr, ptr %extension.field
  %has.extension = icmp ne ptr %extension, null
  br i1 %has.extension, label %extended, label %staged
extended:
  %kind.field = getelementptr i8, ptr %extension, i64 $Extension_Base_type
  %kind = load i32, ptr %kind.field
  %is.question = icmp eq i32 %kind, $Extension_Metadata
  br i1 %is.question, label %question, label %staged
question:
  call void @describe(ptr %extension)
  ret ptr null
staged:
  %stage.field = getelementptr i8, ptr %frame, i64 $CallFrame_stage
  %stage = load i32, ptr %stage.field
  %is.run = icmp eq i32 %stage, $ExecutionStage_EXECUTE
  br i1 %is.run, label %run, label %nothing
nothing:
  ret ptr null
run:
  %api.field = getelementptr i8, ptr %frame, i64 $CallFrame_api
  %api = load ptr, ptr %api.field
  %context.field = getelementptr i8, ptr %frame, i64 $CallFrame_ctx
  %context = load ptr, ptr %context.field
  %in = getelementptr i8, ptr %frame, i64 $CallFrame_args
  %in.size.field = getelementptr i8, ptr %in, i64 $Args_size
  %in.size = load i64, ptr %in.size.field
  %arg_types.field = getelementptr i8, ptr %in, i64 $Args_types
  %arg_types = load ptr, ptr %arg_types.field
  %args.field = getelementptr i8, ptr %in, i64 $Args_args
  %args = load ptr, ptr %args.field
  %out = getelementptr i8, ptr %frame, i64 $CallFrame_rets
  %out.size.field = getelementptr i8, ptr %out, i64 $Rets_size
  %out.size = load i64, ptr %out.size.field
  %ret_types.field = getelementptr i8, ptr %out, i64 $Rets_types
  %ret_types = load ptr, ptr %ret_types.field
  %rets.field = getelementptr i8, ptr %out, i64 $Rets_rets
  %rets = load ptr, ptr %rets.field
  %leaves = sdiv i64 %out.size, $results
  %need.results = mul i64 %leaves, $results
  %need.arrays = mul i64 %leaves, $arrays
  %need = add i64 %need.arrays, $scalars
  %enough.results = icmp eq i64 %out.size, %need.results
  %enough.arrays = icmp eq i64 %in.size, %need
  %enough = and i1 %enough.results, %enough.arrays
  br i1 %enough, label %scalars, label %misfit
misfit:
  %refusal = call ptr @refuse(ptr %api)
  ret ptr %refusal
scalars:
  $scalar_checks
  br i1 %s_fit, label %allocate, label %misfit
allocate:
  %header = getelementptr %Job, ptr null, i64 1
  %header.size = ptrtoint ptr %header to i64
  %bounds = add i64 %leaves, 1
  %numbers = add i64 %bounds, %leaves
  %numbers.size = mul i64 %numbers, 8
  %size = add i64 %header.size, %numbers.size
  %job = call ptr @malloc(i64 %size)
  %allocated = icmp ne ptr %job, null
  br i1 %allocated, label %plan, label %misfit
plan:
  %firsts = getelementptr %Job, ptr %job, i64 1
  %sizes = getelementptr i64, ptr %firsts, i64 %bounds
  br label %leaves.loop
leaves.loop:
  %leaf = phi i64 [0, %plan], [%leaf.next, %fitting]
  %total = phi i64 [0, %plan], [%total.next, %fitting]
  %chunks = phi i64 [0, %plan], [%chunks.next, %fitting]
  %first.slot = getelementptr i64, ptr %firsts, i64 %leaf
  store i64 %chunks, ptr %first.slot
  %more = icmp slt i64 %leaf, %leaves
  br i1 %more, label %one, label %begin
one:
  %array.of = mul i64 %leaf, $arrays
  %array = add i64 %array.of, $scalars
  %result = mul i64 %leaf, $results
  %ret.slot = getelementptr ptr, ptr %rets, i64 %result
  %ret.type.slot = getelementptr i32, ptr %ret_types, i64 %result
  %ret.type = load i32, ptr %ret.type.slot
  %is.buffer = icmp eq i32 %ret.type, $RetType_BUFFER
  br i1 %is.buffer, label %count, label %unfit
count:
  %ret = load ptr, ptr %ret.slot
  %n = call i64 @elements(ptr %ret)
  %size.slot = getelementptr i64, ptr %sizes, i64 %leaf
  store i64 %n, ptr %size.slot
  $array_checks
  $result_checks
  %both_fit = and i1 %a_fit, %r_fit
  %total.next = add i64 %total, %n
  %up = add i64 %n, $chunk
  %up.less = sub i64 %up, 1
  %parts = udiv i64 %up.less, $chunk
  %chunks.next = add i64 %chunks, %parts
  %leaf.next = add i64 %leaf, 1
  br i1 %both_fit, label %fitting, label %unfit
fitting:
  br label %leaves.loop
unfit:
  call void @free(ptr %job)
  br label %misfit
begin:
  %done.field = getelementptr %Job, ptr %job, i64 0, i32 1
  store i64 0, ptr %job
  store i64 0, ptr %done.field
  %holders.field = getelementptr %Job, ptr %job, i64 0, i32 2
  store i64 1, ptr %holders.field
  %chunks.field = getelementptr %Job, ptr %job, i64 0, i32 3
  store i64 %chunks, ptr %chunks.field
  %leaves.field = getelementptr %Job, ptr %job, i64 0, i32 4
  store i64 %leaves, ptr %leaves.field
  %job.args.field = getelementptr %Job, ptr %job, i64 0, i32 5
  store ptr %args, ptr %job.args.field
  %job.rets.field = getelementptr %Job, ptr %job, i64 0, i32 6
  store ptr %rets, ptr %job.rets.field
  %alone = icmp ult i64 %total, $serial
  br i1 %alone, label %work, label %call
call:
  call void @share(ptr %api, ptr %context, ptr %job, i64 %chunks)
  br label %work
work:
  call void @run_job(ptr %job)
  br label %wait
wait:
  %done = load atomic i64, ptr %done.field acquire, align 8
  %finished = icmp uge i64 %done, %chunks
  br i1 %finished, label %exit, label %idle
idle:
  %yielded = call i32 @sched_yield()
  br label %wait
exit:
  call void @leave(ptr %job)
  ret ptr null
}
"""
