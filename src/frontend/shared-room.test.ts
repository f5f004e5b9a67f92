import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { SharedRoom, usualRoom } from "./shared-room.ts";

describe("room of published ports", () => {
  it("goes to the port with the least: the newest of the one with the most gives way", () => {
    const room = new SharedRoom(4);
    const [crowded, other] = [room.share(), room.share()];
    const closed: number[] = [];
    for (let i = 0; i < 6; i++) {
      crowded.enter(() => closed.push(i));
    }
    assert.equal(closed.length, 0);
    assert.ok(other.enter(() => closed.push(10)));
    const last = other.enter(() => closed.push(11));
    assert.ok(last);
    assert.deepEqual(closed, [3, 2]);
    assert.equal(
      other.enter(() => {}),
      undefined,
    );
    assert.equal(
      crowded.enter(() => {}),
      undefined,
    );
    last[Symbol.dispose]();
    last[Symbol.dispose]();
    assert.ok(crowded.enter(() => {}));
    assert.equal(
      crowded.enter(() => {}),
      undefined,
    );
  });

  it("has no more for a place that has given way and is disposed", () => {
    const room = new SharedRoom(2);
    const [crowded, other] = [room.share(), room.share()];
    crowded.enter(() => {});
    const given = crowded.enter(() => {});
    assert.ok(other.enter(() => {}));
    given?.[Symbol.dispose]();
    assert.equal(
      other.enter(() => {}),
      undefined,
    );
  });

  it("is a part of the descriptors that are not for clients", () => {
    assert.ok(usualRoom(1 / 2) > 0 && usualRoom(1 / 2) <= 4_096);
  });
});
