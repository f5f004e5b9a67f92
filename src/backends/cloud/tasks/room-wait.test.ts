import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";

import { isErrorKind } from "../../../common/errors.ts";
import { ManualClock } from "../../../common/manual-clock.ts";
import { capturedLogger } from "../testing/captured-logger.ts";
import { passing } from "../testing/passing.ts";
import { noRoom, testCloud } from "../testing/cloud.ts";
import { RoomWait } from "./room-wait.ts";

const full = `no interface: ${noRoom}`;
const signal = new AbortController().signal;

describe("a start whose task got no room", () => {
  let clock: ManualClock;
  let log: ReturnType<typeof capturedLogger>;
  let told: string[];
  let slept: number[];
  let isRoomExpected: boolean;
  let wait: RoomWait;

  beforeEach(() => {
    clock = new ManualClock();
    log = capturedLogger();
    told = [];
    slept = [];
    isRoomExpected = true;
    wait = new RoomWait(
      { containerId: "container", waits: (reason) => void told.push(reason) },
      {
        cloud: testCloud(),
        clock: {
          nowMs: () => clock.nowMs(),
          nowNs: () => clock.nowNs(),
          sleep(ms, ended) {
            slept.push(ms);
            return clock.sleep(ms, ended);
          },
        },
        logger: log.logger,
        isRoomExpected: () => Promise.resolve(isRoomExpected),
        startTimeoutMs: 60_000,
        quotaTimeoutMs: 600_000,
      },
    );
  });

  const pause = (): Promise<void> => passing(clock, wait.pause(full, signal));

  it("asks more and more rarely, and says what it waits for, in the log once", async () => {
    for (let times = 0; times < 6; times++) {
      await pause();
    }
    assert.deepEqual(slept, [2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
    assert.deepEqual(told, new Array(6).fill(full));
    assert.deepEqual(log.warnings(), [`a container waits to be started: ${full}`]);
  });

  const untilRefused = async (): Promise<Error> => {
    for (;;) {
      try {
        await pause();
      } catch (error) {
        assert.ok(isErrorKind(error, "unavailable"));
        return error as Error;
      }
    }
  };

  it("ends with the cloud's words after the time for a quota", async () => {
    const { message } = await untilRefused();
    assert.equal(
      message,
      `failed to start a task for the container: ${full} (after 600 s, nimbus.quota_timeout)`,
    );
  });

  it("ends sooner where nothing runs whose end would make room", async () => {
    isRoomExpected = false;
    const beganMs = clock.nowMs();
    const { message } = await untilRefused();
    assert.match(
      message,
      /no room for more tasks; for 60 s \(nimbus\.start_timeout\) no task has run in the sky/,
    );
    assert.ok(clock.nowMs() - beganMs <= 120_000);
  });

  it("ends with the cloud's words where nobody wants it any more", async () => {
    const left = new AbortController();
    const paused = wait.pause(full, left.signal);
    paused.catch(() => {});
    await clock.advance(1_000);
    left.abort(new Error("the client left"));
    await assert.rejects(paused, { message: `failed to start a task for the container: ${full}` });
  });
});
