/** The Debian package's unit of a backend whose containers are pods of a real Kubernetes, in its sandbox. */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { buildLimitMs } from "../support/command.ts";
import { assertInSandbox, DebianPackage } from "../support/debian-package.ts";
import { withoutCluster } from "../support/kubernetes-cluster.ts";
import { KubernetesAccount, sharedCluster } from "../support/kubernetes-daemon.ts";
import { giveRights, roleRules } from "../support/kubernetes-rights.ts";
import type { SystemdMachine } from "../support/systemd-machine.ts";

const unit = "sockerless@kubernetes";
const etc = "/etc/sockerless";

describe("a backend of Kubernetes under systemd", { skip: withoutCluster }, () => {
  const resources = new AsyncDisposableStack();
  let account: KubernetesAccount;
  let deb: DebianPackage;
  let machine: SystemdMachine;
  const docker = (...args: string[]): Promise<string> =>
    machine.docker("/run/sockerless-kubernetes/docker.sock", ...args);

  before(
    async () => {
      deb = resources.use(await DebianPackage.build());
      const cluster = await sharedCluster(resources);
      let credentials = "";
      account = resources.use(
        await KubernetesAccount.open(cluster, {
          prepare: async (namespace) => {
            await giveRights(cluster, namespace, await roleRules());
            credentials = await cluster.kubeconfigOf(namespace, "sockerless");
            return credentials;
          },
        }),
      );
      machine = resources.use(await deb.boot("kubernetes", { sharesNetwork: true }));
      await machine.ok(DebianPackage.installed);
      await machine.ok("systemctl disable --now sockerless.service sockerless.socket");
      await configure(await readFile(credentials, "utf8"));
    },
    { timeout: 6 * buildLimitMs },
  );
  after(async () => {
    await resources.disposeAsync();
  });

  /** Settings as the documents have them: a kubeconfig with a plugin that keeps what it has got, and no `agent_ca`. */
  async function configure(credentials: string): Promise<void> {
    const { users, ...kubeconfig } = JSON.parse(credentials);
    const status = { token: users[0].user.token };
    const credential = { apiVersion: "client.authentication.k8s.io/v1", kind: "ExecCredential", status };
    const kept = "$HOME/.kube/cache";
    const plugin = `#!/bin/sh\nset -e\nmkdir -p "${kept}"\necho asked >>"${kept}/plugin"\necho '${JSON.stringify(credential)}'\n`;
    await writeFile(machine.path("/usr/local/bin/plugin"), plugin, { mode: 0o755 });
    const exec = { apiVersion: credential.apiVersion, command: "plugin", interactiveMode: "Never" };
    const user = { name: users[0].name, user: { exec } };
    const { kubernetes } = JSON.parse(await readFile(account.config, "utf8"));
    const { agent_ca: _own, ...settings } = kubernetes;
    for (const [file, content] of Object.entries({
      "kubernetes.yaml": { kubernetes: { ...settings, kubeconfig: `${etc}/kubeconfig` } },
      kubeconfig: { ...kubeconfig, users: [user] },
    })) {
      await writeFile(machine.path(`${etc}/${file}`), JSON.stringify(content));
      await machine.ok(`chown root:sockerless ${etc}/${file}; chmod 640 ${etc}/${file}`);
    }
  }

  it("runs containers, and finds them after a restart", { timeout: 2 * buildLimitMs }, async () => {
    const pushed = await machine.ok(`sockerless kubernetes push-agent --config ${etc}/kubernetes.yaml`);
    assert.match(pushed, /^already there: /);
    await machine.ok(`systemctl enable --now ${unit}`);
    await assertInSandbox(machine, unit);
    const socket = "/run/sockerless-kubernetes/docker.sock";
    assert.equal(await machine.ok(`stat --format='%a %G' ${socket}`), "660 docker");
    const image = `${account.cluster.registry.host}/busybox:latest`;
    await docker("pull", image);
    await docker("volume", "create", "data");
    await docker("run", "--detach", "--name=stays", "--volume=data:/data", image, "sleep", "100000");
    await docker("exec", "stays", "sh", "-c", "echo kept >/data/file");
    assert.equal(await docker("run", "--rm", "--publish-all", image, "echo", "ran"), "ran");
    const inContainer = join(deb.directory, "copy");
    await docker("cp", "stays:/data/file", inContainer);
    assert.equal(await readFile(inContainer, "utf8"), "kept\n");
    await machine.ok(`systemctl reload ${unit}`);
    await machine.ok(`systemctl restart ${unit}`);
    assert.equal(await docker("exec", "stays", "cat", "/data/file"), "kept");
  });

  it("keeps its authority and its plugin's files in its user's home directory", async () => {
    const home = "/var/lib/sockerless/home";
    const files = await machine.ok(`cd ${home}; find . -type f -printf '%p %m %u\\n' | sort`);
    assert.deepEqual(files.split("\n"), [
      "./.config/sockerless/agent-ca.pem 600 sockerless",
      "./.kube/cache/plugin 600 sockerless",
    ]);
  });

  it("goes on after an upgrade of the package, and ends in order", { timeout: buildLimitMs }, async () => {
    await machine.ok(DebianPackage.installed);
    assert.equal(await docker("exec", "stays", "cat", "/data/file"), "kept");
    await docker("rm", "--force", "--volumes", "stays");
    await docker("volume", "rm", "data");
    await machine.ok(`systemctl disable --now ${unit}`);
  });
});
