/**
 * Jobs of GitLab Runner's whose image is in a registry that wants a password, which the job has in DOCKER_AUTH_CONFIG.
 * Compiling the runner takes minutes: with SOCKERLESS_SOAK=1 alone.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";

import { gitlabImages, loadImages } from "../conformance/gitlab/images.ts";
import type { Job } from "../conformance/gitlab/jobs.ts";
import { gitlabRunner } from "../conformance/gitlab/runner.ts";
import { RunnerSession } from "../conformance/gitlab/runner-session.ts";
import { backendUnderTest } from "../support/backend-under-test.ts";
import { duringTests } from "../support/during-tests.ts";
import { programLimitMs } from "../support/foreign-programs.ts";
import { busyboxImage } from "../support/images.ts";
import { registryUser, TestRegistry } from "../support/registry.ts";
import { inSoak } from "../support/soak.ts";
import { startSetting } from "../support/with-daemon.ts";

const hasSecrets = ["local", "ecs"].includes(backendUnderTest());
const skip = hasSecrets ? inSoak.skip : "only on local and ecs: others have a secret for their own registry";

describe("GitLab Runner and a registry with a password", { skip }, () => {
  let job: (name: string) => Job;
  const session = duringTests(
    async (resources) => {
      const registry = resources.use(await TestRegistry.start({ credentials: true }));
      await registry.push("group/tool", "1", await busyboxImage());
      await registry.push("group/service", "1", await busyboxImage({ Cmd: ["sleep", "1000"] }));
      const programs = await gitlabRunner();
      const images = await gitlabImages(programs);
      const { daemon, host } = await startSetting(resources, {}, ({ services }) => ({
        registry_credentials: [
          `${registry.host}=${services.secrets.create("registry", JSON.stringify(registryUser))}`,
        ],
      }));
      await loadImages(daemon, images);
      const jobs = jobsOf(registry.host);
      job = (name) => jobs.find((each) => each.name === name) ?? assert.fail(`there is no job ${name}`);
      return await RunnerSession.start({
        ...{ programs, jobs, host, daemon: daemon.host },
        settings: () => ['allowed_pull_policies = ["always", "if-not-present", "never"]'],
        log: join(daemon.directory, "runner.log"),
      });
    },
    { timeout: programLimitMs },
  );

  for (const name of [
    "without the password",
    "with a password that is wrong",
    "with the password",
    "with a service of that registry",
    "with an image that is there",
    "never pulled",
  ]) {
    test(`a job ${name}`, async () => {
      const { complaints, log } = await session.result(job(name));
      assert.deepEqual(complaints, [], log);
    });
  }
});

/** Jobs in the order in which they run: the image is there once one has pulled it. */
function jobsOf(host: string): readonly Job[] {
  const { username, password } = registryUser;
  const login = (secret: string): Record<string, string> => ({
    DOCKER_AUTH_CONFIG: JSON.stringify({
      auths: { [host]: { auth: Buffer.from(`${username}:${secret}`).toString("base64") } },
    }),
  });
  const tool = (...pull_policy: readonly string[]) => ({ name: `${host}/group/tool:1`, pull_policy });
  const base = { image: tool("always"), script: ["echo it runs"] };
  const runs = { has: ["\nit runs"] };
  const refused = { status: "failed", reason: "runner_configuration_error", hasNot: ["\nit runs"] } as const;
  return [
    { ...base, name: "without the password", expect: { ...refused, has: ["no basic auth credentials"] } },
    { ...base, name: "with a password that is wrong", variables: login("no"), expect: refused },
    {
      ...base,
      name: "with the password",
      variables: login(password),
      expect: { has: [...runs.has, "Authenticating with credentials from $DOCKER_AUTH_CONFIG"] },
    },
    {
      ...base,
      name: "with a service of that registry",
      services: [{ name: `${host}/group/service:1`, pull_policy: ["always"] }],
      variables: login(password),
      expect: runs,
    },
    { ...base, name: "with an image that is there", image: tool("if-not-present"), expect: runs },
    { ...base, name: "never pulled", image: tool("never"), expect: runs },
  ];
}
