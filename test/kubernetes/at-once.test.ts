/** Containers that start, are asked and stop at once on a real Kubernetes: 200 in the soak, 20 without. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { channelText, hijackRequest } from "../support/raw-client.ts";
import { EngineApi } from "../support/engine-api.ts";
import { withoutCluster } from "../support/kubernetes-cluster.ts";
import { withKubernetes } from "../support/kubernetes-daemon.ts";
import { isSoak } from "../support/soak.ts";
import { until } from "../support/until.ts";

const count = isSoak ? 200 : 20;

suite(`${count} containers at once on Kubernetes`, { skip: withoutCluster }, () => {
  const { kubernetes } = withKubernetes();
  const api = new EngineApi(() => kubernetes.daemon.socket);

  test("all start, answer for themselves, stop with their own code and leave no pod", async (t) => {
    const numbers = Array.from({ length: count }, (_, number) => number);
    const each = <T>(work: (name: string, number: number) => Promise<T>): Promise<T[]> =>
      Promise.all(numbers.map((number) => work(`c-${number}`, number)));
    const timed = async <T>(what: string, work: Promise<T>): Promise<T> => {
      const began = performance.now();
      const result = await work;
      t.diagnostic(`${what}: ${((performance.now() - began) / 1000).toFixed(1)} s`);
      return result;
    };
    const command = 'trap "exit $((NUMBER % 200))" TERM; echo $NUMBER; while :; do sleep 0.2; done';
    const body = (number: number) => ({
      Cmd: ["sh", "-c", command],
      Env: [`NUMBER=${number}`],
      HostConfig: { NanoCpus: 5_000_000, Memory: 32 * 1024 ** 2 },
    });
    await timed(
      "created and started",
      each((name, number) => api.run(body(number), name)),
    );
    const listed = await api.expect<object[]>(200, "GET", "/containers/json");
    assert.equal(listed.length, count);
    const logs = await timed(
      "logs",
      each((name) =>
        until(async () => {
          const { bytes } = await api.call("GET", `/containers/${name}/logs?stdout=1`);
          return bytes.length > 0 ? channelText(bytes, 1) : undefined;
        }),
      ),
    );
    assert.deepEqual(
      logs,
      numbers.map((number) => `${number}\n`),
    );
    const asked = await timed(
      "execs",
      each(async (name) => {
        const made = { Cmd: ["sh", "-c", "echo $NUMBER"], AttachStdout: true };
        const { Id } = await api.expect<{ Id: string }>(201, "POST", `/containers/${name}/exec`, made);
        const client = api.connect();
        client.send(hijackRequest(`/v1.51/exec/${Id}/start`, { body: "{}" }));
        await client.end();
        return channelText(client.body, 1);
      }),
    );
    assert.deepEqual(
      asked,
      numbers.map((number) => `${number}\n`),
    );
    await timed(
      "stopped",
      each((name) => api.expect(204, "POST", `/containers/${name}/stop?t=60`)),
    );
    const codes = await each(async (name) => (await api.inspect(name)).State.ExitCode);
    assert.deepEqual(
      codes,
      numbers.map((number) => number % 200),
    );
    await timed(
      "removed",
      each((name) => api.expect(204, "DELETE", `/containers/${name}`)),
    );
    await until(async () =>
      (await kubernetes.kubectl("get", "pods", "--output=name")) === "" ? true : undefined,
    );
  });
});
