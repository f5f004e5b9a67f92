import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setImmediate } from "node:timers/promises";

import { GetLogEventsCommand } from "@aws-sdk/client-cloudwatch-logs";
import { AuthorizeSecurityGroupIngressCommand, CreateSecurityGroupCommand } from "@aws-sdk/client-ec2";
import {
  ClusterNotFoundException,
  ECSServiceException,
  RegisterTaskDefinitionCommand,
  RunTaskCommand,
} from "@aws-sdk/client-ecs";

import { ManualClock } from "../../../common/manual-clock.ts";
import { capturedLogger } from "../../cloud/testing/captured-logger.ts";
import { type CallerOptions, createCaller, type SdkClient } from "./caller.ts";
import { AwsError } from "./errors.ts";

const command = new RunTaskCommand({ taskDefinition: "a:1" });

const config = { credentials: () => Promise.resolve() };

/** A client that answers in turn; a function throws. */
function scripted(...answers: (object | (() => Error))[]): SdkClient & { made: number } {
  return {
    made: 0,
    send() {
      const answer = answers[Math.min(this.made++, answers.length - 1)];
      return typeof answer === "function" ? Promise.reject(answer()) : Promise.resolve(answer);
    },
    destroy() {},
    config,
  };
}

function failure(name: string, httpStatusCode: number): () => Error {
  return () =>
    new ECSServiceException({
      name,
      message: "AWS's own words",
      $fault: httpStatusCode < 500 ? "client" : "server",
      $metadata: { httpStatusCode, requestId: "request-1" },
    });
}

function setUp(region = "eu-north-1", rates: CallerOptions["rates"] = {}) {
  const clock = new ManualClock();
  const { logger, lines } = capturedLogger();
  const ending = new AbortController();
  const call = createCaller({ region, rates, clock, logger, signal: ending.signal });
  return { clock, lines, call, ending };
}

describe("a call of AWS", () => {
  it("is logged with AWS's request ID", async () => {
    const { lines, call } = setUp();
    await call("ecs", scripted({ $metadata: { requestId: "request-7" } }), command);
    const [line] = lines;
    assert.equal(line?.["operation"], "RunTask");
    assert.equal(line?.["requestId"], "request-7");
  });

  it("that comes too soon is repeated until it is taken", async () => {
    const { clock, call } = setUp();
    const throttled = failure("ThrottlingException", 400);
    const client = scripted(throttled, throttled, throttled, throttled, throttled, { tasks: [] });
    await clock.settled(call("ecs", client, command));
    assert.equal(client.made, 6);
  });

  it("waits for its turn where its rate is used up, and calls of EC2 have a rate each", async () => {
    const { clock, call } = setUp();
    const client = scripted({});
    const calls = (made: () => object) => Array.from({ length: 60 }, () => call("ec2", client, made()));
    const group = { GroupId: "sg-1" };
    const permitted = Promise.all(calls(() => new AuthorizeSecurityGroupIngressCommand(group)));
    await clock.advance(0);
    assert.equal(client.made, 50);
    await clock.advance(1_000);
    assert.equal(client.made, 55);
    const created = Promise.all(
      calls(() => new CreateSecurityGroupCommand({ GroupName: "g", Description: "d" })),
    );
    await clock.advance(0);
    assert.equal(client.made, 105);
    await clock.settled(Promise.all([permitted, created]));
    assert.equal(client.made, 120);
  });

  it("for a task is counted by the capacity that it asks for, also where Spot is configured", async () => {
    const rate = { burst: 1, perSecond: 1 };
    const { clock, call } = setUp("eu-north-1", { "spot-launches": rate });
    const client = scripted({});
    const capacityProviderStrategy = [{ capacityProvider: "FARGATE_SPOT", weight: 1 }];
    const onSpot = [1, 2].map(() =>
      call("ecs", client, new RunTaskCommand({ taskDefinition: "a:1", capacityProviderStrategy })),
    );
    const onDemand = [1, 2, 3].map(() =>
      call("ecs", client, new RunTaskCommand({ taskDefinition: "a:1", launchType: "FARGATE" })),
    );
    await clock.advance(0);
    assert.equal(client.made, 4);
    await clock.settled(Promise.all([...onSpot, ...onDemand]));
  });

  it("is made once more with credentials that are read anew where AWS does not take them any more", async () => {
    for (const name of [
      "ExpiredTokenException",
      "UnrecognizedClientException",
      "InvalidClientTokenId",
      "InvalidSignatureException",
      "SignatureDoesNotMatch",
      "AuthFailure",
    ]) {
      const { clock, call } = setUp();
      let read = 0;
      const client = (...answers: Parameters<typeof scripted>) => ({
        ...scripted(...answers),
        config: {
          async credentials() {
            read += 1;
          },
        },
      });
      const rotated = client(failure(name, 403), {});
      await clock.settled(call("ecs", rotated, command));
      assert.deepEqual([rotated.made, read], [2, 1], name);
      const revoked = client(failure(name, 403));
      await assert.rejects(clock.settled(call("ecs", revoked, command)), { code: name });
      assert.deepEqual([revoked.made, read], [2, 2], name);
    }
  });

  it("reads logs as often as its region lets it", async () => {
    for (const [region, atOnce] of [
      ["eu-north-1", 25],
      ["eu-west-1", 10],
    ] as const) {
      const { clock, call } = setUp(region);
      const client = scripted({});
      const reads = Array.from({ length: 30 }, () =>
        call("logs", client, new GetLogEventsCommand({ logStreamName: "one" })),
      );
      await clock.advance(0);
      assert.equal(client.made, atOnce);
      await clock.settled(Promise.all(reads));
    }
  });

  it("that AWS fails is repeated a few times", async () => {
    const { clock, call } = setUp();
    const client = scripted(failure("ServerException", 500));
    await assert.rejects(clock.settled(call("ecs", client, command)), (error) => {
      assert.ok(error instanceof AwsError);
      assert.equal(error.kind, "system");
      return true;
    });
    assert.equal(client.made, 4);
  });

  it("that would be done twice is not repeated where its answer may be lost, but where AWS has not taken it", async () => {
    const { clock, call } = setUp();
    const registration = new RegisterTaskDefinitionCommand({ family: "a", containerDefinitions: [] });
    const failed = scripted(failure("ServerException", 500));
    await assert.rejects(clock.settled(call("ecs", failed, registration)), /ServerException/);
    assert.equal(failed.made, 1);
    const throttled = scripted(failure("ThrottlingException", 400), {});
    await clock.settled(call("ecs", throttled, registration));
    assert.equal(throttled.made, 2);
  });

  it("that AWS refuses is not repeated, and its error keeps AWS's words, code and request", async () => {
    const { lines, call } = setUp();
    const client = scripted(failure("AccessDeniedException", 400));
    await assert.rejects(call("ecs", client, command), (error) => {
      assert.ok(error instanceof AwsError);
      assert.equal(error.kind, "system");
      assert.equal(error.code, "AccessDeniedException");
      assert.equal(error.requestId, "request-1");
      assert.equal(error.message, "ecs: RunTask: AWS's own words (AccessDeniedException)");
      return true;
    });
    assert.equal(client.made, 1);
    assert.ok(lines.some(({ requestId }) => requestId === "request-1"));
  });

  it("that AWS denies is told once, and again after AWS has allowed it", async () => {
    const { lines, call } = setUp();
    const told = () => lines.filter(({ msg }) => String(msg).startsWith("the backend is not allowed")).length;
    const denied = scripted(failure("AccessDeniedException", 400));
    for (const _ of [1, 2]) {
      await assert.rejects(call("ecs", denied, command));
    }
    await assert.rejects(call("ecs", scripted(failure("ClientException", 400)), command));
    assert.equal(told(), 1);
    await call("ecs", scripted({}), command);
    await assert.rejects(call("ecs", denied, command));
    assert.equal(told(), 2);
  });

  it("ends when its caller does not want it any more", async () => {
    const { clock, call } = setUp();
    const gone = new AbortController();
    const waiting = call("ecs", scripted(failure("ThrottlingException", 400)), command, gone.signal);
    await clock.advance(10);
    gone.abort(new Error("the client left"));
    await assert.rejects(waiting, /the client left/);
  });

  it("is answered where it makes a task and is on its way when its caller does not want it any more", async () => {
    const { call } = setUp();
    const gone = new AbortController();
    const answer = Promise.withResolvers<object>();
    const client: SdkClient = {
      send: (_command, { abortSignal } = {}) => {
        abortSignal?.addEventListener("abort", () => answer.reject(abortSignal.reason));
        return answer.promise;
      },
      destroy() {},
      config,
    };
    const waiting = call("ecs", client, command, gone.signal);
    await setImmediate();
    gone.abort(new Error("the client left"));
    answer.resolve({ tasks: [] });
    assert.deepEqual(await waiting, { tasks: [] });
  });

  it("tells who does not want it any more that it may have made a task, and that it has not", async () => {
    const left = new Error("the client left");
    const lost = failure("ServerException", 500);
    const throttled = failure("ThrottlingException", 400);
    const denied = failure("AccessDeniedException", 400);
    for (const [answers, expected] of [
      [[lost], /ServerException/],
      [[lost, throttled], /ServerException/],
      [[throttled], left],
      [[denied], left],
    ] as const) {
      const { clock, call } = setUp();
      const gone = new AbortController();
      const client = scripted(...answers);
      const send = client.send.bind(client);
      client.send = (sent) => {
        const answer = send(sent);
        if (client.made === answers.length) {
          gone.abort(left);
        }
        return answer;
      };
      await assert.rejects(clock.settled(call("ecs", client, command, gone.signal)), expected);
      assert.equal(client.made, answers.length);
    }
  });

  it("tells that it may have made a task where its answer was lost, also if it is refused when it is made again", async () => {
    const lost = failure("ServerException", 500);
    const denied = failure("AccessDeniedException", 400);
    for (const [answers, expected] of [
      [[lost, denied], "ServerException"],
      [[denied], "AccessDeniedException"],
    ] as const) {
      const { clock, call } = setUp();
      const client = scripted(...answers);
      await assert.rejects(clock.settled(call("ecs", client, command)), { code: expected });
      assert.equal(client.made, answers.length);
    }
  });

  it("ends with the backend, whether its caller can end it or not", async () => {
    const { call, ending } = setUp();
    const silent: SdkClient = {
      send: (_command, { abortSignal } = {}) =>
        new Promise((_resolve, reject) => {
          abortSignal?.addEventListener("abort", () => reject(abortSignal.reason));
        }),
      destroy() {},
      config,
    };
    const caller = new AbortController();
    const waiting = [call("ecs", silent, command), call("ecs", silent, command, caller.signal)];
    const ends = waiting.map((each) => assert.rejects(each, /shutting down/));
    await setImmediate();
    ending.abort(new Error("the backend is shutting down"));
    await Promise.all(ends);
    await assert.rejects(call("ecs", scripted({}), command), /shutting down/);
  });
});

describe("an error of AWS", () => {
  const kindOf = (error: Error): string => new AwsError({ service: "ecs", operation: "RunTask" }, error).kind;

  it("is a fault of the installation where the cluster does not exist", () => {
    const error = new ClusterNotFoundException({ message: "Cluster not found.", $metadata: {} });
    assert.equal(kindOf(error), "system");
  });

  it("is `unavailable` where a rate or a quota is used up", () => {
    for (const name of ["ThrottlingException", "LimitExceededException", "AccessPointLimitExceeded"]) {
      assert.equal(kindOf(failure(name, 400)()), "unavailable", name);
    }
  });

  it("names Node's errno where nobody answered", () => {
    const error = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
    assert.equal(new AwsError({ service: "ecs", operation: "RunTask" }, error).code, "ECONNREFUSED");
  });
});
