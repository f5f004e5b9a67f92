import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { ConflictException, type ECSClient } from "@aws-sdk/client-ecs";

import { isRefusal } from "../../cloud/contract/cloud-error.ts";
import { RequestStale, type TaskAnswer } from "../../cloud/contract/cloud-tasks.ts";
import { describeAll } from "../../cloud/tasks/describe-all.ts";
import type { AwsService } from "../aws/clients.ts";
import { AwsError } from "../aws/errors.ts";
import { fakeClient, type Operations, refusal } from "../testing/fake-client.ts";
import { ecsTasks } from "./ecs-tasks.ts";

const quota = "You've reached the limit on the number of vCPUs you can run concurrently";
const place = "eu-west-1:123456789012";
const { signal } = new AbortController();
const request = JSON.stringify({ clientToken: "token", taskDefinition: "definition:1" });

function setUp(operations: Operations) {
  const { client, made } = fakeClient<AwsService<ECSClient>>(operations);
  return {
    tasks: ecsTasks({ ecs: client, cluster: "cluster", place, instance: "one", logGroup: "/g" }),
    made,
  };
}

function run(answer: () => unknown): Promise<TaskAnswer> {
  const there = () => ({ taskDefinition: { status: "ACTIVE" } });
  return setUp({ RunTask: answer, DescribeTaskDefinition: there }).tasks.run(request, signal);
}

function refusing(error: Error): () => never {
  return () => {
    throw error;
  };
}

describe("RunTask", () => {
  it("answers the task's ARN", async () => {
    assert.deepEqual(await run(() => ({ tasks: [{ taskArn: "arn:1" }], failures: [] })), { task: "arn:1" });
  });

  it("answers the task that the same start was given before", async () => {
    const conflict = new ConflictException({ message: "taken", resourceIds: ["arn:before"], $metadata: {} });
    const error = new AwsError({ service: "ecs", operation: "RunTask" }, conflict);
    assert.deepEqual(await run(refusing(error)), { task: "arn:before" });
  });

  it("takes failures for what they are, though they come as a success", async () => {
    const answer = await run(() => ({ failures: [{ reason: "RESOURCE:ENI", detail: "none is left" }] }));
    assert.deepEqual(answer, {
      reason: "RESOURCE:ENI: none is left",
      cause: undefined,
      prospect: "capacity",
    });
  });

  it("answers a refusal in the same words, however AWS puts it", async () => {
    const full = refusal("ecs", "RunTask", "ClientException", quota);
    const reason = `ecs: RunTask: ${quota} (ClientException)`;
    assert.deepEqual(await run(refusing(full)), { reason, cause: full, prospect: "room" });
    const failed = await run(() => ({ failures: [{ reason: quota }] }));
    assert.deepEqual(failed, { reason: quota, cause: undefined, prospect: "room" });
    const denied = refusal("ecs", "RunTask", "InvalidParameterException", "unable to assume the role");
    assert.deepEqual(await run(refusing(denied)), {
      reason: denied.message,
      cause: denied,
      prospect: "lasts",
    });
  });

  it("tells a definition that is gone from other refusals by a look at it, whatever the words", async () => {
    const refuse = refusing(refusal("ecs", "RunTask", "InvalidParameterException", "Nobody has seen this."));
    const look = (answer: () => unknown): Promise<TaskAnswer> =>
      setUp({ RunTask: refuse, DescribeTaskDefinition: answer }).tasks.run(request, signal);
    const unknown = refusal("ecs", "DescribeTaskDefinition", "ClientException", "Unable to describe");
    const gone = [
      ...["INACTIVE", "DELETE_IN_PROGRESS"].map((status) => () => ({ taskDefinition: { status } })),
      refusing(unknown),
    ];
    for (const answer of gone) {
      await assert.rejects(look(answer), RequestStale);
    }
    const denied = refusal("ecs", "DescribeTaskDefinition", "AccessDeniedException", "not authorized");
    const there = [() => ({ taskDefinition: { status: "ACTIVE" } }), refusing(denied)];
    for (const answer of there) {
      assert.ok("reason" in (await look(answer)));
    }
  });

  it("is followed by no look where its refusal has another reason for certain", async () => {
    for (const [code, words] of [
      ["AccessDeniedException", "not authorized"],
      ["ThrottlingException", "Rate exceeded"],
      ["ClientException", quota],
      ["ServerException", "Service Unavailable"],
    ] as const) {
      const { tasks, made } = setUp({ RunTask: refusing(refusal("ecs", "RunTask", code, words)) });
      assert.ok("reason" in (await tasks.run(request, signal)));
      assert.equal(made("DescribeTaskDefinition").length, 0);
    }
  });

  it("that was not made is no answer of AWS's", async () => {
    const left = new Error("the start is over");
    await assert.rejects(run(refusing(left)), left);
  });
});

describe("the tasks of an instance", () => {
  it("are listed page by page", async () => {
    const { tasks, made } = setUp({
      ListTasks: ({ nextToken }) =>
        nextToken === undefined ? { taskArns: ["arn:a"], nextToken: "1" } : { taskArns: ["arn:b"] },
    });
    assert.deepEqual(await tasks.listOwn(), ["arn:a", "arn:b"]);
    assert.ok(made("ListTasks").every(({ startedBy }) => startedBy === "one"));
  });

  it("may be unknown to AWS", async () => {
    const { tasks } = setUp({
      DescribeTasks: () => ({
        tasks: [{ taskArn: "arn:a" }],
        failures: [{ arn: "arn:b", reason: "MISSING" }],
      }),
    });
    const { views, missing } = await tasks.describe(["arn:a", "arn:b"], signal);
    assert.deepEqual([views.map(({ task }) => task), missing], [["arn:a"], ["arn:b"]]);
  });

  it("are stopped for reasons that are known again, where there is something to stop", async () => {
    const gone = refusal("ecs", "StopTask", "InvalidParameterException", "not found");
    const { tasks, made } = setUp({ StopTask: ({ task }) => (task === "arn:gone" ? refusing(gone)() : {}) });
    await tasks.stop("arn:a", "the container has ended");
    await tasks.stop("arn:gone", "the container has ended");
    assert.equal(made("StopTask")[0]?.["reason"], "sockerless: the container has ended");
  });

  it("are described and stopped in the cluster that they were started in", async () => {
    const of = (path: string): string => `arn:aws:ecs:eu-west-1:123456789012:task/${path}`;
    const { tasks, made } = setUp({
      DescribeTasks: ({ tasks: asked, cluster }) => {
        const names = asked as string[];
        if (names.some((task) => task !== of("old") && task !== of(`${cluster}/${task.at(-1)}`))) {
          refusing(refusal("ecs", "DescribeTasks", "InvalidParameterException", "another cluster"))();
        }
        return { tasks: names.map((taskArn) => ({ taskArn })) };
      },
      StopTask: ({ cluster }) =>
        cluster === "before"
          ? refusing(refusal("ecs", "StopTask", "ClusterNotFoundException", "Cluster not found."))()
          : {},
    });
    const all = [of("cluster/1"), of("before/2"), of("old"), of("before/3"), of("cluster/4")];
    const { views, failed } = await describeAll(tasks, all, signal);
    assert.deepEqual([new Set(views.map(({ task }) => task)), failed.size], [new Set(all), 0]);
    assert.deepEqual(
      made("DescribeTasks").map(({ cluster, tasks: asked }) => [cluster, asked]),
      [
        ["cluster", [of("cluster/1"), of("old"), of("cluster/4")]],
        ["before", [of("before/2"), of("before/3")]],
      ],
    );
    for (const task of all) {
      await tasks.stop(task, "the container has ended");
    }
    assert.deepEqual(
      made("StopTask").map(({ cluster }) => cluster),
      ["cluster", "before", "cluster", "before", "cluster"],
    );
  });

  it("are gone with the cluster that they were started in, unless that is the configured one", async () => {
    const DescribeTasks = refusing(
      refusal("ecs", "DescribeTasks", "ClusterNotFoundException", "Cluster not found."),
    );
    const { tasks } = setUp({ DescribeTasks });
    const of = (path: string): string => `arn:aws:ecs:eu-west-1:123456789012:task/${path}`;
    assert.deepEqual(await tasks.describe([of("before/1")], signal), {
      views: [],
      missing: [of("before/1")],
    });
    for (const task of [of("cluster/1"), of("old")]) {
      await assert.rejects(tasks.describe([task], signal), /Cluster not found/);
    }
  });

  it("are neither gone nor given up where the credentials lead to another account or region", async () => {
    const of = (where: string): string => `arn:aws:ecs:${where}/1`;
    for (const [code, words] of [
      ["ClusterNotFoundException", "Cluster not found."],
      ["InvalidParameterException", "Identifier is for 123456789012. Your accountId is 999999999999"],
    ] as const) {
      const { tasks } = setUp({ DescribeTasks: refusing(refusal("ecs", "DescribeTasks", code, words)) });
      const all = [
        of("us-east-1:123456789012:task/cluster"),
        of("eu-west-1:999999999999:task/before"),
        of("eu-west-1:123456789012:task/cluster"),
      ];
      const { views, failed } = await describeAll(tasks, all, signal);
      assert.deepEqual([views, [...failed.keys()]], [[], all]);
      for (const [task, failure] of failed) {
        assert.match(String(failure), new RegExp(`${words} .*the credentials must lead to ${task}`));
        assert.equal(isRefusal(failure), false);
      }
    }
  });

  it("are refused a look where a right is missing, not where the credentials are not taken for a while", async () => {
    for (const [code, isRefused] of [
      ["ExpiredTokenException", false],
      ["UnrecognizedClientException", false],
      ["AccessDeniedException", true],
    ] as const) {
      const { tasks } = setUp({ DescribeTasks: refusing(refusal("ecs", "DescribeTasks", code, "no")) });
      await assert.rejects(tasks.describe(["1"], signal), (error) => isRefusal(error) === isRefused);
    }
  });

  it("write to streams of their own", () => {
    const task = "arn:aws:ecs:eu-west-1:123456789012:task/cluster/0123";
    assert.equal(setUp({}).tasks.logStreamOf(task), "/g:sockerless/main/0123");
  });
});
