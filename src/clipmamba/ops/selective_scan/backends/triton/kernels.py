"""The Triton kernels; `launch` calls them and describes their order.

A program handles BD channels of one group and BT steps, one chunk. A picture's directions (WAY) are
scanned two at a time over one chunk of pixels, forward (k = 0) and backward (k = 1) along the rows
or the columns; `differentiate_chunks` scans one at a time. A tile is (channels, steps), its steps
in the order of its own direction.
"""

from __future__ import annotations

import triton
import triton.language as tl

SEQUENCE = tl.constexpr(0)
ROWS = tl.constexpr(1)
COLUMNS = tl.constexpr(2)
LOG2_E = tl.constexpr(1.4426950408889634)  # exp(x) is exp2(x log2(e)), one instruction


@triton.jit
def _follow(decay, state, next_decay, next_state):
    """Compose two steps h -> a h + v into one."""
    return decay * next_decay, next_decay * state + next_state


@triton.jit
def _softplus(x):
    """Compute log(1 + exp(x)) without the rounding error of 1 + exp(x) (Kahan's log1p)."""
    small = tl.exp(-tl.abs(x))
    near = 1.0 + small
    log = tl.where(
        near == 1.0, small, tl.log(near) * (small / tl.where(near == 1.0, 1.0, near - 1.0))
    )
    return tl.maximum(x, 0.0) + log


@triton.jit
def _tile(
    pointer, batch, channel, first, at, batch_stride, channel_stride, step, BD: tl.constexpr
):  # fmt: skip
    """Return addresses (BD, BT): channels from `channel` on, steps `first` + `at`.

    The common offset is 64-bit, those of the elements are 32-bit, which saves registers.
    """
    start = pointer + batch.to(tl.int64) * batch_stride + channel.to(tl.int64) * channel_stride
    start += first.to(tl.int64) * step
    return start + ((tl.arange(0, BD) * channel_stride)[:, None] + (at * step)[None, :])


@triton.jit
def _pixels(
    pointer, batch, channel, chunk, at, height, width, batch_stride, channel_stride, step,
    WAY: tl.constexpr, BD: tl.constexpr, BT: tl.constexpr,
):  # fmt: skip
    """Return addresses (BD, BT) of a chunk's pixels `at` (BT), or of a sequence's steps."""
    if WAY == COLUMNS:
        t = chunk * BT + at
        start = pointer + batch.to(tl.int64) * batch_stride
        start += channel.to(tl.int64) * channel_stride
        places = ((t % height) * width + t // height) * step
        return start + ((tl.arange(0, BD) * channel_stride)[:, None] + places[None, :])
    return _tile(pointer, batch, channel, chunk * BT, at, batch_stride, channel_stride, step, BD)


@triton.jit
def _step_sizes(addresses, mask, bias, SOFTPLUS: tl.constexpr, LEAST: tl.constexpr):
    """Return delta + bias, before softplus, and the step sizes, 0 where masked (no step)."""
    raw = tl.load(addresses, mask=mask, other=0.0).to(tl.float32) + bias[:, None]
    size = _softplus(raw) if SOFTPLUS else raw
    return raw, tl.where(mask, size + LEAST, 0.0)


@triton.jit
def _row(pointer, channel, live):
    """Load the values (BD) of an optional parameter."""
    if pointer is None:
        return tl.zeros_like(channel).to(tl.float32)
    return tl.load(pointer + channel, mask=live, other=0.0).to(tl.float32)


@triton.jit
def chunk_ends(
    values, gate, weights, delta, bias, A, ends, sums,
    values_batch, values_channel, values_step,
    gate_batch, gate_channel, gate_step,
    weights_batch, weights_group, weights_state, weights_step,
    delta_batch, delta_channel, delta_step,
    channels, rows, steps, states, height, width,
    WAY: tl.constexpr, BACKWARD: tl.constexpr, SOFTPLUS: tl.constexpr, LEAST: tl.constexpr,
    BD: tl.constexpr, BT: tl.constexpr,
):  # fmt: skip
    """Compute each chunk's final state from a zero initial state, and the sum of its step sizes.

    h_end = sum_t exp(A (delta_(t+1) + ... + delta_end)) delta_t u_t B_t needs no scan, since the
    exponents are sums of step sizes. In the backward pass, the same holds for a_t dh_t, with
    C_t dy_t and the sums from the chunk's start to t.
    """
    blocks = tl.cdiv(rows, BD)
    block, chunk = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    batch = tl.program_id(2)
    chunks = tl.cdiv(steps, BT)
    channel = block * BD + tl.arange(0, BD)
    live = channel < rows
    i = tl.arange(0, BT)
    first = block * BD
    if WAY == SEQUENCE:
        first += tl.program_id(1) * rows
    for k in tl.static_range(1 if WAY == SEQUENCE else 2):
        group = tl.program_id(1) + k + (0 if WAY == SEQUENCE else 2 * (WAY - 1))
        # backward, the last step is the first pixel: step i of the chunk is pixel `at`
        at = BT - 1 - i if k == 1 else i
        origin = steps - (chunk + 1) * BT if k == 1 else chunk * BT
        inside = chunk * BT + at < steps
        mask = live[:, None] & inside[None, :]
        value_at = _pixels(
            values, batch, first, chunk, at, height, width, values_batch, values_channel,
            values_step, WAY, BD, BT,
        )  # fmt: skip
        value = tl.load(value_at, mask=mask, other=0.0).to(tl.float32)
        if gate is not None:
            gate_at = _tile(gate, batch, first, origin, i, gate_batch, gate_channel, gate_step, BD)
            z = tl.load(gate_at, mask=mask, other=0.0).to(tl.float32)
            value *= z * tl.sigmoid(z)
        mine = group * rows + channel
        shift = _row(bias, mine, live)
        top = group * rows + block * BD
        size = _step_sizes(
            _tile(delta, batch, top, origin, i, delta_batch, delta_channel, delta_step, BD),
            mask, shift, SOFTPLUS, LEAST,
        )[1]  # fmt: skip
        if BACKWARD:
            drive = value
            until = tl.cumsum(size, 1)
        else:
            drive = value * size
            # suffix sums without the step itself; subtracting it from the full ones loses digits
            followed = inside & (i < BT - 1)
            if k == 0:
                followed = followed & (chunk * BT + at + 1 < steps)
            after = _step_sizes(
                _tile(delta, batch, top, origin + 1, i, delta_batch, delta_channel, delta_step, BD),
                live[:, None] & followed[None, :], shift, SOFTPLUS, LEAST,
            )[1]  # fmt: skip
            until = tl.cumsum(after, 1, reverse=True)
        line = (batch.to(tl.int64) * chunks + chunk) * channels
        tl.store(sums + line + mine, tl.sum(size, 1), mask=live)
        weight_at = (
            weights + batch.to(tl.int64) * weights_batch + group.to(tl.int64) * weights_group
            + origin.to(tl.int64) * weights_step + i * weights_step
        )  # fmt: skip
        for n in range(states):
            rate = tl.load(A + mine * states + n, mask=live, other=0.0).to(tl.float32) * LOG2_E
            weight = tl.load(weight_at + n * weights_state, mask=inside, other=0.0)
            end = tl.exp2(until * rate[:, None]) * drive * weight.to(tl.float32)[None, :]
            tl.store(ends + line * states + n * channels + mine, tl.sum(end, 1), mask=live)


@triton.jit
def carry_states(
    ends, sums, A, first, arriving, last,
    first_batch, first_channel, first_state, last_batch, last_channel, last_state,
    channels, rows, states, chunks,
    BACKWARD: tl.constexpr, ALTERNATE: tl.constexpr, BD: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Compute each chunk's initial state and the final state, from what `chunk_ends` computed.

    Every second group of a picture (ALTERNATE) is scanned from its end.
    """
    blocks = tl.cdiv(rows, BD)
    group, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    n = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    channel = block * BD + tl.arange(0, BD)
    live = channel < rows
    mine = group * rows + channel
    back = (group % (2 if ALTERNATE else 1) == 1) != BACKWARD
    rate = tl.load(A + mine * states + n, mask=live, other=0.0).to(tl.float32) * LOG2_E
    state = tl.zeros((BD,), tl.float32)
    if first is not None:
        at = first + batch * first_batch + mine * first_channel + n * first_state
        state = tl.load(at, mask=live, other=0.0).to(tl.float32)
    origin = (batch * chunks + tl.where(back, chunks - 1, 0)) * states + n
    tl.store(arriving + origin * channels + mine, state, mask=live)
    for start in range(0, chunks, BC):
        order = start + tl.arange(0, BC)
        place = tl.where(back, chunks - 1 - order, order)
        line = batch * chunks + place
        mask = (order < chunks)[:, None] & live[None, :]
        total = tl.load(sums + line[:, None] * channels + mine[None, :], mask=mask, other=0.0)
        line = line * states + n
        end = tl.load(ends + line[:, None] * channels + mine[None, :], mask=mask, other=0.0)
        decay, after = tl.associative_scan((tl.exp2(total * rate[None, :]), end), 0, _follow)
        after += decay * state[None, :]
        line += tl.where(back, -states, states)
        tl.store(
            arriving + line[:, None] * channels + mine[None, :], after,
            mask=(order < chunks - 1)[:, None] & live[None, :],
        )  # fmt: skip
        state = tl.sum(tl.where((order == start + BC - 1)[:, None], after, 0.0), 0)
    tl.store(last + batch * last_batch + mine * last_channel + n * last_state, state, mask=live)


@triton.jit
def scan_chunks(
    u, delta, A, B, C, D, z, bias, starts, add, out,
    u_batch, u_channel, u_step,
    delta_batch, delta_channel, delta_step,
    B_batch, B_group, B_state, B_step,
    C_batch, C_group, C_state, C_step,
    z_batch, z_channel, z_step,
    out_batch, out_channel, out_step,
    channels, rows, steps, states, height, width,
    WAY: tl.constexpr, SOFTPLUS: tl.constexpr, LEAST: tl.constexpr,
    BD: tl.constexpr, BT: tl.constexpr,
):  # fmt: skip
    """Compute the output of each chunk from its initial state; plus `add`, laid out as `out`."""
    blocks = tl.cdiv(rows, BD)
    block, chunk = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    batch = tl.program_id(2)
    chunks = tl.cdiv(steps, BT)
    channel = block * BD + tl.arange(0, BD)
    live = channel < rows
    i = tl.arange(0, BT)
    first = block * BD
    if WAY == SEQUENCE:
        first += tl.program_id(1) * rows
    total = tl.zeros((BD, BT), tl.float32)
    for k in tl.static_range(1 if WAY == SEQUENCE else 2):
        group = tl.program_id(1) + k + (0 if WAY == SEQUENCE else 2 * (WAY - 1))
        # backward, the last step is the first pixel: step i of the chunk is pixel `at`
        at = BT - 1 - i if k == 1 else i
        origin = steps - (chunk + 1) * BT if k == 1 else chunk * BT
        inside = chunk * BT + at < steps
        mask = live[:, None] & inside[None, :]
        u_at = _pixels(
            u, batch, first, chunk, at, height, width, u_batch, u_channel, u_step, WAY, BD, BT
        )
        value = tl.load(u_at, mask=mask, other=0.0).to(tl.float32)
        mine = group * rows + channel
        size = _step_sizes(
            _tile(
                delta, batch, group * rows + block * BD, origin, i,
                delta_batch, delta_channel, delta_step, BD,
            ),
            mask, _row(bias, mine, live), SOFTPLUS, LEAST,
        )[1]  # fmt: skip
        x = size * value
        B_at = (
            B + batch.to(tl.int64) * B_batch + group.to(tl.int64) * B_group
            + origin.to(tl.int64) * B_step + i * B_step
        )  # fmt: skip
        C_at = (
            C + batch.to(tl.int64) * C_batch + group.to(tl.int64) * C_group
            + origin.to(tl.int64) * C_step + i * C_step
        )  # fmt: skip
        starts_at = starts + (batch.to(tl.int64) * chunks + chunk) * states * channels + mine
        y = _row(D, mine, live)[:, None] * value
        for n in range(states):
            rate = tl.load(A + mine * states + n, mask=live, other=0.0).to(tl.float32) * LOG2_E
            b = tl.load(B_at + n * B_state, mask=inside, other=0.0).to(tl.float32)
            c = tl.load(C_at + n * C_state, mask=inside, other=0.0).to(tl.float32)
            start = tl.load(starts_at + n * channels, mask=live, other=0.0)
            decay, h = tl.associative_scan(
                (tl.exp2(size * rate[:, None]), x * b[None, :]), 1, _follow
            )
            y += (h + decay * start[:, None]) * c[None, :]
        if k == 1:
            y = tl.flip(y, 1)
        total += y
    mask = live[:, None] & (chunk * BT + i < steps)[None, :]
    if z is not None:
        z_at = _tile(z, batch, first, chunk * BT, i, z_batch, z_channel, z_step, BD)
        gate = tl.load(z_at, mask=mask, other=0.0).to(tl.float32)
        total *= gate * tl.sigmoid(gate)
    if add is not None:
        add_at = _pixels(
            add, batch, first, chunk, i, height, width, out_batch, out_channel, out_step,
            WAY, BD, BT,
        )  # fmt: skip
        total += tl.load(add_at, mask=mask, other=0.0)
    out_at = _pixels(
        out, batch, first, chunk, i, height, width, out_batch, out_channel, out_step, WAY, BD, BT
    )
    tl.store(out_at, total.to(out.dtype.element_ty), mask=mask)


@triton.jit
def differentiate_chunks(
    u, delta, A, B, C, D, z, bias, starts, arriving, dout, add,
    du, ddelta, dA, dB, dC, dD, dz, dbias,
    u_batch, u_channel, u_step,
    delta_batch, delta_channel, delta_step,
    B_batch, B_group, B_state, B_step,
    C_batch, C_group, C_state, C_step,
    z_batch, z_channel, z_step,
    dout_batch, dout_channel, dout_step,
    du_batch, du_channel, du_step,
    batches, volume, channels, rows, steps, states, height, width,
    WAY: tl.constexpr, TURNED: tl.constexpr, SOFTPLUS: tl.constexpr, LEAST: tl.constexpr,
    BD: tl.constexpr, BT: tl.constexpr,
):  # fmt: skip
    """Compute gradients of each chunk from its initial state and its final state's gradient.

    A picture's directions are scanned one at a time, forward or TURNED: two do not fit the
    registers.

    dA, dD and dbias are per chunk, dB and dC per block of channels; `launch` sums them. These,
    ddelta (`volume` elements per batch element) and dz are contiguous. `add`, laid out as du, is
    added to it.
    """
    blocks = tl.cdiv(rows, BD)
    block, chunk = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    batch = tl.program_id(2)
    chunks = tl.cdiv(steps, BT)
    channel = block * BD + tl.arange(0, BD)
    live = channel < rows
    i = tl.arange(0, BT)
    first = block * BD
    if WAY == SEQUENCE:
        first += tl.program_id(1) * rows
    group = tl.program_id(1)
    groups = tl.num_programs(1)
    if WAY != SEQUENCE:
        group += 2 * (WAY - 1) + TURNED
        groups *= 4
    # backward, the last step is the first pixel: step i of the chunk is pixel `at`
    at = BT - 1 - i if TURNED else i
    origin = steps - (chunk + 1) * BT if TURNED else chunk * BT
    # The gradients' scan runs in reverse, on tiles read from their end (names in _back). With
    # associative_scan(reverse=True), Triton would reverse all inputs and outputs: 66 shuffles.
    back = BT - 1 - i
    inside = chunk * BT + at < steps
    inside_back = chunk * BT + (BT - 1 - at) < steps
    mask = live[:, None] & inside[None, :]
    mask_back = live[:, None] & inside_back[None, :]
    u_at = _pixels(
        u, batch, first, chunk, at, height, width, u_batch, u_channel, u_step, WAY, BD, BT
    )
    value = tl.load(u_at, mask=mask, other=0.0).to(tl.float32)
    dout_at = _pixels(
        dout, batch, first, chunk, at, height, width, dout_batch, dout_channel, dout_step,
        WAY, BD, BT,
    )  # fmt: skip
    dout_back = _pixels(
        dout, batch, first, chunk, BT - 1 - at, height, width, dout_batch, dout_channel,
        dout_step, WAY, BD, BT,
    )  # fmt: skip
    dy = tl.load(dout_at, mask=mask, other=0.0).to(tl.float32)
    dy_back = tl.load(dout_back, mask=mask_back, other=0.0).to(tl.float32)
    if z is not None:
        z_at = _tile(z, batch, first, origin, i, z_batch, z_channel, z_step, BD)
        z_back = _tile(z, batch, first, origin, back, z_batch, z_channel, z_step, BD)
        gate = tl.load(z_at, mask=mask, other=0.0).to(tl.float32)
        dy *= gate * tl.sigmoid(gate)
        gate = tl.load(z_back, mask=mask_back, other=0.0).to(tl.float32)
        dy_back *= gate * tl.sigmoid(gate)
    mine = group * rows + channel
    shift = _row(bias, mine, live)
    top = group * rows + block * BD
    delta_at = _tile(delta, batch, top, origin, i, delta_batch, delta_channel, delta_step, BD)
    raw, size = _step_sizes(delta_at, mask, shift, SOFTPLUS, LEAST)
    # no step follows the chunk's last one here: `arriving` already includes it
    next_at = _tile(delta, batch, top, origin + 1, back, delta_batch, delta_channel, delta_step, BD)
    followed = inside_back & (i > 0)
    if not TURNED:
        followed = followed & (chunk * BT + back + 1 < steps)
    next_back = _step_sizes(next_at, live[:, None] & followed[None, :], shift, SOFTPLUS, LEAST)[1]
    x = size * value
    B_at = (
        B + batch.to(tl.int64) * B_batch + group.to(tl.int64) * B_group
        + origin.to(tl.int64) * B_step + i * B_step
    )  # fmt: skip
    C_at = (
        C + batch.to(tl.int64) * C_batch + group.to(tl.int64) * C_group
        + origin.to(tl.int64) * C_step + i * C_step
    )  # fmt: skip
    C_back = C_at + (back - i) * C_step
    line = (batch.to(tl.int64) * chunks + chunk) * channels
    slab = (block.to(tl.int64) * batches + batch) * groups + group
    slab = slab * states * steps + origin + i
    dx = tl.zeros((BD, BT), tl.float32)
    dsize = tl.zeros((BD, BT), tl.float32)
    y = _row(D, mine, live)[:, None] * value  # needed for dz only
    for n in range(states):
        rate = tl.load(A + mine * states + n, mask=live, other=0.0).to(tl.float32)
        b = tl.load(B_at + n * B_state, mask=inside, other=0.0).to(tl.float32)
        c = tl.load(C_at + n * C_state, mask=inside, other=0.0).to(tl.float32)
        place = line * states + n * channels + mine
        scale = rate[:, None] * LOG2_E
        decay, h = tl.associative_scan((tl.exp2(size * scale), x * b[None, :]), 1, _follow)
        h += decay * tl.load(starts + place, mask=live, other=0.0)[:, None]
        if z is not None:
            y += h * c[None, :]
        tl.store(dC + slab + n * steps, tl.sum(dy * h, 0), mask=inside)
        c = tl.load(C_back + n * C_state, mask=inside_back, other=0.0).to(tl.float32)
        end = tl.load(arriving + place, mask=live, other=0.0)[:, None]
        drive = dy_back * c[None, :] + tl.where((i == 0)[None, :], end, 0.0)
        _, dh = tl.associative_scan((tl.exp2(next_back * scale), drive), 1, _follow)
        dh = tl.flip(dh, 1)
        tl.store(dB + slab + n * steps, tl.sum(dh * x, 0), mask=inside)
        dx += dh * b[None, :]
        through = dh * (h - x * b[None, :])  # dh_t a_t h_(t-1)
        dsize += through * rate[:, None]
        tl.store(dA + place, tl.sum(through * size, 1), mask=live)
    dvalue = dx * size
    draw = dsize + dx * value
    if SOFTPLUS:
        draw *= tl.sigmoid(raw)
    ddelta_at = _tile(ddelta, batch, top, origin, i, volume, steps, 1, BD)
    tl.store(ddelta_at, draw.to(ddelta.dtype.element_ty), mask=mask)
    if bias is not None:
        tl.store(dbias + line + mine, tl.sum(tl.where(mask, draw, 0.0), 1), mask=live)
    if D is not None:
        skip = _row(D, mine, live)[:, None]
        dvalue += skip * dy
        tl.store(dD + line + mine, tl.sum(dy * value, 1), mask=live)
    if z is not None:
        gate = tl.load(z_at, mask=mask, other=0.0).to(tl.float32)
        sigmoid = tl.sigmoid(gate)
        dgate = tl.load(dout_at, mask=mask, other=0.0).to(tl.float32) * y * sigmoid
        dgate *= 1.0 + gate * (1.0 - sigmoid)
        dz_at = _tile(dz, batch, first, origin, i, volume, steps, 1, BD)
        tl.store(dz_at, dgate.to(dz.dtype.element_ty), mask=mask)
    if add is not None:
        add_at = _pixels(
            add, batch, first, chunk, at, height, width, du_batch, du_channel, du_step, WAY, BD, BT
        )
        dvalue += tl.load(add_at, mask=mask, other=0.0)
    du_at = _pixels(
        du, batch, first, chunk, at, height, width, du_batch, du_channel, du_step, WAY, BD, BT
    )
    tl.store(du_at, dvalue.to(du.dtype.element_ty), mask=mask)
