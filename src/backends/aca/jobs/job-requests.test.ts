import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ImageRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { ReportedPhase } from "../../driver/launches.ts";
import type { ResolvedMount, WorkloadSpec } from "../../driver/workload-spec.ts";
import { type SaidOfContainer, workloadSpec } from "../../cloud/testing/workload-spec.ts";
import type { JobSettings } from "./job.ts";
import { withSecrets } from "./job.ts";
import type { JobImage, JobImages } from "./job-parts.ts";
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
const derived: JobImage = {
  reference: `one.azurecr.io/x@sha256:${"1".repeat(64)}`,
  agent: "/sockerless-agent",
};
const step = <T>(_stillTo: string, work: () => Promise<T>): Promise<T> => work();

function requests(
  image = plain,
  job: Partial<JobSettings> = {},
  images: JobImages = () => Promise.resolve(image),
) {
  return jobRequests({
    images,
    volumes: {
      partsOf: () => Promise.resolve({ volumes: [], mounts: [] }),
      unmounted: () => [],
      refuseUnfit() {},
    },
    job: { ...settings, ...job },
    defaultSize: { cpu: 1, memory: 2 * 1024 ** 3 },
  });
}

/** The template of a job whose images are derived where their IDs say so. */
async function templateOf(main: string, mounts: readonly ResolvedMount[]) {
  const images: JobImages = ({ id }) => Promise.resolve(id === "derived" ? derived : plain);
  const spec = workloadSpec({}, { image: create(ImageRecordSchema, { id: main }), mounts });
  return parseRequest(await requests(plain, {}, images).make(spec, step)).job.template;
}

function imageMount(id: string, fields: Partial<ResolvedMount> = {}): ResolvedMount {
  const image = create(ImageRecordSchema, { id });
  return { type: "image", destination: "/mnt/image", readOnly: true, image, ...fields };
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
    const request = parseRequest(await requests(derived).make(workloadSpec(), step));
    assert.equal(request.job.template?.initContainers, undefined);
    assert.deepEqual(request.job.template?.containers?.[0]?.command, ["/sockerless-agent"]);
    assert.deepEqual(request.job.template?.containers?.[0]?.args, ["init"]);
  });

  it("names the configured registry where an image is of it, with the identity or a password", async () => {
    assert.deepEqual((await made()).job.configuration?.registries, [
      { server: "one.azurecr.io", identity: settings.identity },
    ]);
    const elsewhere = { agentImage: "ghcr.io/x/agent:1" };
    const none = parseRequest(await requests(plain, elsewhere).make(workloadSpec(), step));
    assert.equal(none.job.configuration?.registries, undefined);
    const images: JobImages = ({ id }) => Promise.resolve(id === "mounted" ? derived : plain);
    const mounting = workloadSpec({}, { mounts: [imageMount("mounted")] });
    const mounted = parseRequest(await requests(plain, elsewhere, images).make(mounting, step));
    assert.equal(mounted.job.configuration?.registries?.[0]?.server, "one.azurecr.io");
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

  it("copies images that it mounts by init containers, which are of those images", async () => {
    const template = await templateOf("plain", [
      imageMount("plain"),
      imageMount("plain", { destination: "/again" }),
      imageMount("derived", { destination: "/part", subpath: "usr/bin" }),
    ]);
    const [agent, whole, part, ...more] = template?.initContainers ?? [];
    assert.deepEqual([agent?.name, more], ["agent", []]);
    assert.equal(whole?.image, plain.reference);
    assert.deepEqual(whole?.command, ["/.sockerless/sockerless-agent"]);
    assert.deepEqual(whole?.args, ["copy-image", "/.sockerless-image"]);
    assert.deepEqual(whole?.volumeMounts, [
      { volumeName: "sockerless", mountPath: "/.sockerless" },
      { volumeName: whole?.name, mountPath: "/.sockerless-image" },
    ]);
    assert.equal(part?.image, derived.reference);
    assert.deepEqual(part?.command, ["/sockerless-agent"]);
    assert.deepEqual(part?.args, ["copy-image", "/.sockerless-image", "usr/bin"]);
    assert.deepEqual(template?.containers?.[0]?.volumeMounts?.slice(-3), [
      { volumeName: whole?.name, mountPath: "/mnt/image" },
      { volumeName: whole?.name, mountPath: "/again" },
      { volumeName: part?.name, mountPath: "/part" },
    ]);
    assert.deepEqual(template?.volumes?.slice(-2), [
      { name: whole?.name, storageType: "EmptyDir" },
      { name: part?.name, storageType: "EmptyDir" },
    ]);
  });

  it("brings the agent where an image that it mounts has none, although its own has one", async () => {
    const namesOf = async (mounted: string) =>
      (await templateOf("derived", [imageMount(mounted)]))?.initContainers?.map(({ name }) => name) ?? [];
    assert.deepEqual((await namesOf("plain")).slice(0, -1), ["agent"]);
    assert.deepEqual((await namesOf("derived")).slice(0, -1), []);
  });

  it("tells what is done to its images as one phase", async () => {
    const phases: ReportedPhase[] = [];
    const tell = (told: ReportedPhase): void => {
      phases.push(told);
    };
    const [main, mounted] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const images: JobImages = async ({ id }, _record, _step, phase) => {
      const isMounted = id === "mounted";
      const from = new Date(isMounted ? 2 : 1);
      phase({ name: "image", by: "backend", from });
      await (isMounted ? mounted.promise : main.promise);
      phase({ name: "image", by: "backend", from, until: new Date(isMounted ? 3 : 4) });
      main.resolve();
      return derived;
    };
    const spec = workloadSpec({}, { mounts: [imageMount("mounted")] });
    const request = requests(derived, {}, images).make(spec, step, tell);
    mounted.resolve();
    await request;
    assert.deepEqual(
      phases.map(({ from, until }) => [from.getTime(), until?.getTime()]),
      [
        [1, undefined],
        [1, undefined],
        [1, 4],
      ],
    );
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
