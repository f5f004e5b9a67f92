import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setImmediate } from "node:timers/promises";

import {
  createHttpHeaders,
  createPipelineRequest,
  type HttpMethods,
  type PipelineResponse,
  RestError,
} from "@azure/core-rest-pipeline";

import { ManualClock } from "../../../common/manual-clock.ts";
import { capturedLogger } from "../../cloud/testing/captured-logger.ts";
import { pacingPolicy } from "./pacing.ts";
import { parseRates, type RateName } from "./rates.ts";
import type { Rate } from "../../cloud/calls/token-bucket.ts";

const job = "https://management.azure.com/subscriptions/s/resourceGroups/g/providers/Microsoft.App/jobs/sk-1";

type Answer = number | Error | "never" | { readonly status: number; readonly retryAfter: string };

function setUp(rates: Partial<Record<RateName, Rate>> = {}) {
  const clock = new ManualClock();
  const { logger } = capturedLogger();
  const ending = new AbortController();
  const policy = pacingPolicy({ rates, clock, logger, signal: ending.signal });
  const sentMs: number[] = [];
  /** Sends a request that is answered in turn, the last answer again and again. */
  const send = (method: HttpMethods, url: string, ...answers: Answer[]): Promise<PipelineResponse> => {
    let made = 0;
    return policy.sendRequest(createPipelineRequest({ method, url }), (request) => {
      sentMs.push(clock.nowMs());
      const answer = answers[Math.min(made++, answers.length - 1)] ?? 200;
      if (answer instanceof Error) {
        return Promise.reject(answer);
      }
      if (answer === "never") {
        return new Promise(() => {});
      }
      const { status, retryAfter } = typeof answer === "number" ? { status: answer, retryAfter: "" } : answer;
      const headers = createHttpHeaders(retryAfter === "" ? {} : { "retry-after": retryAfter });
      return Promise.resolve({ request, status, headers });
    });
  };
  return { clock, send, sentMs, ending };
}

const unanswered = /^Error: Azure has not answered within 30 s$/;
const cut = new RestError("socket hang up", { code: "ECONNRESET" });

describe("requests to Azure", () => {
  it("that are not answered are lost after half a minute, and made once more, but a start", async () => {
    const { clock, send, sentMs } = setUp();
    const { status } = await clock.settled(send("GET", job, "never", 200));
    assert.equal(status, 200);
    assert.equal(sentMs.length, 2);
    const begunMs = clock.nowMs();
    await assert.rejects(clock.settled(send("GET", job, "never")), unanswered);
    assert.ok(clock.nowMs() - begunMs < 65_000);
    assert.equal(sentMs.length, 4);
    await assert.rejects(clock.settled(send("POST", `${job}/start`, "never")), unanswered);
    assert.equal(sentMs.length, 5);
  });

  it("that are throttled wait as long as Azure says", async () => {
    const { clock, send, sentMs } = setUp();
    const { status } = await clock.settled(send("GET", job, { status: 429, retryAfter: "7" }, 200));
    assert.equal(status, 200);
    const [first = 0, second = 0] = sentMs;
    assert.ok(second - first >= 7_000 && second - first < 8_000);
  });

  it("that are lost, or fail in Azure, are made again a few times", async () => {
    const { clock, send, sentMs } = setUp();
    assert.equal((await clock.settled(send("PUT", job, cut, 503, 201))).status, 201);
    assert.equal(sentMs.length, 3);
    await assert.rejects(clock.settled(send("GET", job, cut)), /socket hang up/);
    assert.equal(sentMs.length, 7);
  });

  it("that start a job are made once, unless Azure has certainly not done it", async () => {
    const { clock, send, sentMs } = setUp();
    await assert.rejects(clock.settled(send("POST", `${job}/start`, cut)), /socket hang up/);
    assert.equal((await clock.settled(send("POST", `${job}/start`, 500))).status, 500);
    assert.equal(sentMs.length, 2);
    assert.equal((await clock.settled(send("POST", `${job}/start`, 429, 202))).status, 202);
  });

  it("that are refused are made once", async () => {
    const { clock, send, sentMs } = setUp();
    assert.equal((await clock.settled(send("GET", job, 404))).status, 404);
    assert.equal(sentMs.length, 1);
  });

  it("keep to the rates, starts before clearing away", async () => {
    const { clock, send, sentMs } = setUp(parseRates(["writes=1/1", "deletes=1/1"]));
    await clock.settled(Promise.all([send("PUT", job), send("POST", `${job}/start`), send("DELETE", job)]));
    const sorted = sentMs.toSorted((a, b) => a - b);
    assert.ok((sorted.at(-1) ?? 0) > (sorted[0] ?? 0));
    assert.equal(sorted.filter((ms) => ms === sorted[0]).length, 2); // The deletion has a rate of its own.
  });

  it("that look at executions are 50 at once and then 15 a second, and leave other reads their time", async () => {
    const { clock, send, sentMs } = setUp();
    const looks = Array.from({ length: 110 }, () => send("GET", `${job}/executions/e`));
    await setImmediate();
    assert.equal(sentMs.length, 50);
    await send("GET", job);
    await clock.settled(Promise.all(looks));
    const [first = 0] = sentMs;
    const last = sentMs.at(-1) ?? 0;
    assert.ok(last - first >= 4_000, `60 looks came within ${last - first} ms`);
  });

  it("that make volumes leave starts their time, and stops go before starts", async () => {
    const { clock, send } = setUp();
    const account =
      "https://management.azure.com/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage";
    const app = "https://management.azure.com/subscriptions/s/resourceGroups/g/providers/Microsoft.App";
    const all: Promise<unknown>[] = [];
    const made = { volumes: 0, starts: 0 };
    const count = (what: keyof typeof made, url: string): void => {
      all.push(send("PUT", url).then(() => made[what]++));
    };
    for (let volume = 0; volume < 100; volume++) {
      count("volumes", `${account}/storageAccounts/a/fileServices/default/shares/sk-${volume}`);
      count("volumes", `${app}/managedEnvironments/e/storages/sk-${volume}`);
    }
    await clock.settled(send("PUT", job));
    assert.ok(made.volumes < 50, `${made.volumes} writes of volumes went before a start`);
    for (let start = 0; start < 300; start++) {
      count("starts", job);
    }
    await clock.settled(send("POST", `${job}/executions/e/stop`));
    assert.ok(made.starts < 170, `${made.starts} starts went before the stop`);
    await clock.settled(Promise.all(all));
  });

  it("that import images, and look at that again and again, come after all others", async () => {
    const { clock, send } = setUp(parseRates(["reads=1/1", "writes=1/1"]));
    const registry =
      "https://management.azure.com/subscriptions/s/providers/Microsoft.ContainerRegistry/locations/l/operationResults/";
    const made: string[] = [];
    const all: Promise<unknown>[] = [];
    const ask = (what: string, method: HttpMethods, url: string): void => {
      all.push(send(method, url).then(() => made.push(what)));
    };
    for (let image = 0; image < 20; image++) {
      ask("looks", "GET", `${registry}${image}`);
      ask("imports", "POST", `${registry.replace("operationResults/", "importImage")}`);
    }
    ask("execution", "GET", `${job}/executions/e`);
    ask("job", "GET", job);
    ask("start", "PUT", job);
    await clock.settled(Promise.all(all));
    const isOthers = (what: string): boolean => ["execution", "job", "start"].includes(what);
    assert.ok(made.findLastIndex(isOthers) < 8, `they came in this order: ${made.join()}`);
  });

  it("end with the backend", async () => {
    const { clock, send, ending } = setUp();
    const waiting = send("GET", job, { status: 429, retryAfter: "60" });
    waiting.catch(() => {});
    await setImmediate();
    ending.abort(new Error("the backend is shutting down"));
    await assert.rejects(clock.settled(waiting), /shutting down/);
  });

  it("have rates that can be configured, by their names", () => {
    assert.deepEqual(parseRates(["reads=500/50"]), { reads: { burst: 500, perSecond: 50 } });
    assert.throws(() => parseRates(["write=1/1"]), /there is no rate write: did you mean writes\?/);
    assert.throws(() => parseRates(["writes=0/1"]), /lets no call through/);
  });
});
