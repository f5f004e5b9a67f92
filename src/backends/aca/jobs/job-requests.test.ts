import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { WorkloadSpec } from "../../common/driver.ts";
import { type SaidOfContainer, workloadSpec } from "../../common/cloud/testing/workload-spec.ts";
import type { JobSettings } from "./job.ts";
import { withSecrets } from "./job.ts";
import type { JobImage } from "./job-parts.ts";
import { jobRequests, parseRequest } from "./job-requests.ts";

const registry = { server: "one.azurecr.io", username: undefined };
const settings: JobSettings = {
  location: "westeurope",
  environmentId: "/subscriptions/s/resourceGroups/g/providers/Microsoft.App/managedEnvironments/e",
  instance: "sockerless/0123456789abcdef",
  agentImage: "one.azurecr.io/sockerless:agent",
  replicaTimeoutMs: 3_600_000,
  identity: "/subscriptions/s/identities/i",
  registry,
  authorityPin: new Uint8Array(32),
  startTimeoutMs: 300_000,
  callbackUrl: "wss://backend.example",
};
const plain: JobImage = { reference: `docker.io/library/busybox@sha256:${"0".repeat(64)}`, agent: undefined };
const step = <T>(_stillTo: string, work: () => Promise<T>): Promise<T> => work();

function requests(image = plain, job: Partial<JobSettings> = {}) {
  return jobRequests({
    images: () => Promise.resolve(image),
    volumes: {
      partsOf: () => Promise.resolve({ volumes: [], mounts: [] }),
      unmounted: () => [],
      refuseUnfit() {},
    },
    job: { ...settings, ...job },
    defaultSize: { cpu: 1, memory: 2 * 1024 ** 3 },
  });
}

const made = async (said: SaidOfContainer = {}, fields: Partial<WorkloadSpec> = {}) =>
  parseRequest(await requests().make(workloadSpec(said, fields), step));

describe("the request for a container's job", () => {
  it("is a manual job of one replica that is not tried again", async () => {
    const { name, job } = await made();
    assert.equal(name, "sk-cccccccccccc");
    const { triggerType, replicaTimeout, replicaRetryLimit, manualTriggerConfig } = job.configuration ?? {};
    assert.deepEqual(
      [triggerType, replicaTimeout, replicaRetryLimit, manualTriggerConfig],
      ["Manual", 3600, 0, { parallelism: 1, replicaCompletionCount: 1 }],
    );
    assert.equal(job.tags?.["sockerless-container"], "c".repeat(64));
  });

  it("brings the agent by an init container, unless the image has it", async () => {
    const [init] = (await made()).job.template?.initContainers ?? [];
    assert.deepEqual(init?.args, ["cp", "/.sockerless/sockerless-agent"]);
    const derived = { reference: `one.azurecr.io/x@sha256:${"1".repeat(64)}`, agent: "/.sockerless-agent" };
    const request = parseRequest(await requests(derived).make(workloadSpec(), step));
    assert.equal(request.job.template?.initContainers, undefined);
    assert.deepEqual(request.job.template?.containers?.[0]?.command, ["/.sockerless-agent"]);
    assert.deepEqual(request.job.template?.containers?.[0]?.args, ["init"]);
  });

  it("names the configured registry where an image is of it, with the identity or a password", async () => {
    assert.deepEqual((await made()).job.configuration?.registries, [
      { server: "one.azurecr.io", identity: settings.identity },
    ]);
    const elsewhere = { agentImage: "ghcr.io/x/agent:1" };
    const none = parseRequest(await requests(plain, elsewhere).make(workloadSpec(), step));
    assert.equal(none.job.configuration?.registries, undefined);
    const withName = { registry: { server: "one.azurecr.io", username: "me" } };
    const { job } = parseRequest(await requests(plain, withName).make(workloadSpec(), step));
    assert.deepEqual(job.configuration?.registries, [
      { server: "one.azurecr.io", username: "me", passwordSecretRef: "sockerless-registry" },
    ]);
    const { secrets } =
      withSecrets(job, { callback: "once", registryPassword: "swordfish" }).configuration ?? {};
    assert.deepEqual(secrets, [
      { name: "sockerless-callback", value: "once" },
      { name: "sockerless-registry", value: "swordfish" },
    ]);
  });

  it("has nothing secret, and the agent's secret by reference alone", async () => {
    const { job } = await made();
    const env = job.template?.containers?.[0]?.env ?? [];
    assert.deepEqual(
      env.find(({ name }) => name === "SOCKERLESS_CALLBACK_SECRET"),
      { name: "SOCKERLESS_CALLBACK_SECRET", secretRef: "sockerless-callback" },
    );
    assert.equal(job.configuration?.secrets, undefined);
  });

  it("is the same for the same start, and alike for the next", async () => {
    const [one, again, next, larger] = await Promise.all([
      requests().make(workloadSpec(), step),
      requests().make(workloadSpec(), step),
      requests().make(workloadSpec({ generation: 2n }), step),
      requests().make(workloadSpec({ hostConfig: { resources: { nanoCpus: 2_000_000_000n } } }), step),
    ]);
    assert.equal(one, again);
    assert.equal(parseRequest(next).name, "sk-cccccccccccc-2");
    assert.ok(requests().isAlike(one, next));
    assert.ok(!requests().isAlike(one, larger));
  });

  it("for another task is another job's, by a name that Azure takes", async () => {
    const spec = workloadSpec({ generation: 1_234_567n });
    const one = await requests().make(spec, step);
    const second = requests().another(one, "sk-cccccccccccc-1234567/e");
    const third = requests().another(second, "sk-cccccccccccc-1234567-x012345/e");
    const names = [one, second, third].map((each) => parseRequest(each).name);
    assert.equal(new Set(names).size, 3);
    assert.equal(requests().another(one, "sk-cccccccccccc-1234567/e"), second);
    for (const name of names) {
      assert.match(name, /^(?=.{2,32}$)[a-z]([a-z0-9]|-(?!-))*[a-z0-9]$/);
    }
  });

  it("for another try of a start that gave no task is the same job's", async () => {
    const one = await requests().make(workloadSpec(), step);
    assert.equal(requests().another(one, ""), one);
  });

  it("has an empty directory for each tmpfs", async () => {
    const tmpfs = {
      type: "tmpfs",
      destination: "/scratch",
      readOnly: false,
    } as WorkloadSpec["mounts"][number];
    const { job } = await made({}, { mounts: [tmpfs] });
    assert.deepEqual(job.template?.volumes?.at(-1), { name: "tmpfs-0", storageType: "EmptyDir" });
    assert.deepEqual(job.template?.containers?.[0]?.volumeMounts?.at(-1), {
      volumeName: "tmpfs-0",
      mountPath: "/scratch",
    });
  });
});
