/** deploy/kubernetes, applied as it stands to a real Kubernetes: a Docker API that the docker CLI outside connects to. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

import { buildImage, image } from "../image/built-image.ts";
import { wayWithin } from "../image/loopback-ways.ts";
import { makeCertificates, type TestCertificates } from "../support/certificates.ts";
import { type CommandResult, runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { withoutCluster } from "../support/kubernetes-cluster.ts";
import { KubernetesDaemon, withCluster } from "../support/kubernetes-daemon.ts";
import { node } from "../support/kubernetes-node.ts";
import { until, untilTrue } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

const namespace = "sockerless";

suite("what deploy/kubernetes has", { skip: withoutCluster }, () => {
  const resources = new AsyncDisposableStack();
  after(() => resources.disposeAsync());
  const cluster = withCluster();
  const directory = scratchDirectory();
  let certificates: TestCertificates;
  let forward: { readonly process: ChildProcess; readonly port: number } | undefined;

  before(async () => {
    certificates = await makeCertificates(directory);
    await pushImage();
    await apply();
  });

  const kubectl = (...args: string[]): Promise<string> => cluster.kubectl("--namespace", namespace, ...args);

  /** The image of this checkout, where nodes pull it. The agent goes there as well. */
  const pushImage = async (): Promise<void> => {
    await using own = await KubernetesDaemon.start(cluster);
    await own.daemon.ok("load", "--input", await buildImage(directory));
    await own.daemon.ok("tag", image, `${cluster.registry.host}/${image}`);
    await own.daemon.ok("push", `${cluster.registry.host}/${image}`);
  };

  /** Applies the folder as the base of a kustomization. */
  const apply = async (): Promise<void> => {
    await cp(join(checkout, "deploy/kubernetes"), join(directory, "base"), { recursive: true });
    await mkdir(join(directory, "own/tls"), { recursive: true });
    const { registry } = cluster;
    const { ca, cert, key } = certificates.server;
    await cp(ca, join(directory, "own/tls/ca.pem"));
    await cp(cert, join(directory, "own/tls/cert.pem"));
    await cp(key, join(directory, "own/tls/key.pem"));
    await writeFile(
      join(directory, "own/sockerless.yaml"),
      JSON.stringify({
        backend: "kubernetes",
        kubernetes: { registry: `${registry.host}/sockerless`, services: true, linger: "20m" },
      }),
    );
    const [name = "", newTag = ""] = image.split(":");
    const way = {
      name: "way",
      image: name,
      command: ["node", "--eval", wayWithin(node, [Number(registry.host.split(":")[1])])],
    };
    await writeFile(
      join(directory, "own/kustomization.yaml"),
      JSON.stringify({
        namespace,
        resources: ["../base"],
        components: ["../base/components/services"],
        images: [{ name, newName: `${registry.host}/${name}`, newTag }],
        configMapGenerator: [{ name: "sockerless", behavior: "replace", files: ["sockerless.yaml"] }],
        secretGenerator: [{ name: "sockerless-tls", files: ["tls/ca.pem", "tls/cert.pem", "tls/key.pem"] }],
        patches: [
          {
            target: { kind: "Deployment" },
            patch: JSON.stringify([{ op: "add", path: "/spec/template/spec/containers/-", value: way }]),
          },
        ],
      }),
    );
    await cluster.kubectl("create", "namespace", namespace);
    const label = "pod-security.kubernetes.io/warn=restricted";
    await cluster.kubectl("label", "namespace", namespace, label);
    await kubectl("apply", "-k", join(directory, "own"));
    await untilTrue(async () => !/Pending/.test(await kubectl("get", "pvc", "--no-headers")));
    // Kubernetes gives the files of a hostPath volume to no group.
    await runCommand("chmod", ["-R", "0777", "/tmp/hostpath_pv"]);
    await ready();
  };

  /** Waits until the backend's pod is ready, and passes a port of this machine on to its Service. */
  const ready = async (): Promise<void> => {
    await kubectl("rollout", "status", "deployment/sockerless", "--timeout=10m").catch(async (error) => {
      const logs = ["logs", "deployment/sockerless", "--all-containers", "--tail=50"];
      throw new Error(`${await kubectl("describe", "pods")}\n${await kubectl(...logs)}`, { cause: error });
    });
    forward?.process.kill();
    const child = spawn(
      join(process.env["SOCKERLESS_TEST_KUBERNETES"] ?? "", "kubectl"),
      [
        ...["--kubeconfig", cluster.kubeconfig, "--namespace", namespace, "port-forward", "svc/sockerless"],
        ":2376",
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    resources.defer(() => void child.kill());
    const [line] = (await once(child.stdout, "data")) as [Buffer];
    forward = { process: child, port: Number(/127\.0\.0\.1:(\d+)/.exec(String(line))?.[1]) };
  };

  /** The docker CLI outside of the cluster. */
  const docker = async (...args: string[]): Promise<CommandResult> => {
    const { ca, cert, key } = certificates.client;
    const tls = ["--tlsverify", "--tlscacert", ca, "--tlscert", cert, "--tlskey", key];
    return await runCommand("docker", ["--host", `tcp://localhost:${forward?.port}`, ...tls, ...args]);
  };
  const ok = async (...args: string[]): Promise<string> => {
    const { code, text, errorText } = await docker(...args);
    assert.equal(code, 0, `docker ${args.join(" ")}: ${errorText}`);
    return text;
  };
  /** The names of the namespace's Services, each with a space behind it. */
  const services = async (): Promise<string> =>
    await kubectl("get", "services", "--output=jsonpath={range .items[*]}{.metadata.name} {end}");
  const busybox = (): string => `${cluster.registry.host}/busybox:latest`;

  test("serves a Docker API to clients outside, who need a certificate", async () => {
    assert.match(await ok("info", "--format", "{{.Driver}} {{.OperatingSystem}}"), /kubernetes/i);
    assert.equal(await ok("run", "--rm", busybox(), "echo", "from a pod"), "from a pod");
    await ok("run", "--detach", "--name", "stays", "--volume", "kept:/data", busybox(), "sleep", "1d");
    assert.equal(await ok("exec", "stays", "sh", "-c", "echo in >/data/file; cat /data/file"), "in");
    const anybody = await runCommand("docker", [
      ...["--host", `tcp://localhost:${forward?.port}`, "--tls", "version"],
    ]);
    assert.notEqual(anybody.code, 0);
  });

  test("publishes ports as Services, by the names of containers, which go with their pods", async () => {
    const script = "mkdir /w; echo served >/w/index.html; httpd -f -p 80 -h /w";
    await ok("run", "--detach", "--name", "web", "--publish", "8080:80", busybox(), "sh", "-c", script);
    await ok("run", "--detach", "--name", "own", "--publish", "127.0.0.1:8081:80", busybox(), "sleep", "1d");
    const address = await until(async () => {
      const told = await kubectl("get", "endpointslices", "--output", "json");
      const { items } = JSON.parse(told) as { readonly items: readonly EndpointSlice[] };
      const slice = items.find(({ metadata }) => metadata.labels["kubernetes.io/service-name"] === "web");
      const ip = slice?.endpoints?.find(({ conditions }) => conditions.ready)?.addresses[0];
      return ip === undefined ? undefined : `${ip}:${slice?.ports?.[0]?.port}`;
    });
    await untilTrue(async () => {
      const answer = await fetch(`http://${address}/`).catch(() => undefined);
      return (await answer?.text()) === "served\n";
    });
    assert.equal(await services(), "sockerless web ");
    const port = "--output=jsonpath={.spec.ports[0].port} {.spec.ports[0].targetPort}";
    assert.equal(await kubectl("get", "service", "web", port), "8080 80");
    await ok("restart", "--timeout", "0", "web");
    await ok("rm", "--force", "web");
    await untilTrue(async () => (await services()) === "sockerless ");
  });

  test("lets somebody else's Service be that has a container's name, also when that goes", async () => {
    await kubectl("create", "service", "externalname", "db", "--external-name=db.example.com");
    const fields = "--output=jsonpath={.metadata.uid} {.metadata.ownerReferences} {.spec}";
    const before = await kubectl("get", "service", "db", fields);
    await ok("run", "--detach", "--name", "db", "--publish", "5432:5432", busybox(), "sleep", "1d");
    await ok("run", "--detach", "--name", "beside", "--publish", "5433:5432", busybox(), "sleep", "1d");
    await untilTrue(async () => {
      const logs = await kubectl("logs", "deployment/sockerless", "--container", "sockerless");
      return /create services: services \S+ already exists/.test(logs);
    });
    await untilTrue(async () => (await services()) === "beside db sockerless ");
    await ok("rm", "--force", "db", "beside");
    await untilTrue(async () => (await services()) === "db sockerless ");
    assert.equal(await kubectl("get", "service", "db", fields), before);
    await kubectl("delete", "service", "db");
  });

  test("has no more rights than it needs, and lets in what its own policy says", async () => {
    const logs = await kubectl("logs", "deployment/sockerless", "--container", "sockerless");
    assert.doesNotMatch(logs, /this backend may not|is forbidden/);
    const policy = JSON.parse(await kubectl("get", "networkpolicy", "sockerless", "--output", "json"));
    assert.deepEqual(policy.spec.ingress, [{ ports: [{ port: "docker", protocol: "TCP" }] }]);
    const told = await cluster.kubectl("get", "pods", "--namespace", namespace, "--output", "json");
    const { items } = JSON.parse(told) as { readonly items: readonly Pod[] };
    const own = items.find(({ metadata }) => metadata.labels["app.kubernetes.io/name"] === "sockerless");
    assert.equal(own?.spec.securityContext.runAsNonRoot, true);
  });

  test("loses nothing when the backend's pod is killed", async () => {
    const before = await ok("inspect", "--format", "{{.Id}} {{.State.StartedAt}}", "stays");
    const backend = "--selector=app.kubernetes.io/name=sockerless";
    const killed = await kubectl("get", "pods", backend, "--output=name");
    await kubectl("delete", "pods", backend, "--grace-period=0", "--force");
    await untilTrue(async () => {
      const now = await kubectl("get", "pods", backend, "--output=name");
      return now !== "" && !now.includes(killed);
    });
    await ready();
    assert.equal(await ok("inspect", "--format", "{{.Id}} {{.State.StartedAt}}", "stays"), before);
    assert.equal(await ok("exec", "stays", "cat", "/data/file"), "in");
    assert.equal(await ok("run", "--rm", busybox(), "echo", "goes on"), "goes on");
  });

  test("goes on on another node when its own is drained, with its claim", async () => {
    const before = await ok("inspect", "--format", "{{.Id}} {{.State.StartedAt}}", "stays");
    await cluster.addNode();
    await cluster.kubectl("cordon", "node1");
    const backend = "app.kubernetes.io/name=sockerless";
    const drain = ["drain", "node1", "--force", "--delete-emptydir-data", `--pod-selector=${backend}`];
    await cluster.kubectl(...drain);
    await ready();
    const field = "--output=jsonpath={.items[*].spec.nodeName}";
    assert.equal(await kubectl("get", "pods", "--selector", backend, field), "node2");
    assert.equal(await ok("inspect", "--format", "{{.Id}} {{.State.StartedAt}}", "stays"), before);
    assert.equal(await ok("exec", "stays", "cat", "/data/file"), "in");
    assert.equal(await ok("run", "--rm", busybox(), "echo", "from node2"), "from node2");
    await cluster.kubectl("uncordon", "node1");
    await ok("rm", "--force", "stays", "own");
    await ok("volume", "rm", "kept");
  });
});

interface EndpointSlice {
  readonly metadata: { readonly labels: Readonly<Record<string, string>> };
  readonly endpoints?: readonly {
    readonly addresses: readonly string[];
    readonly conditions: { readonly ready: boolean };
  }[];
  readonly ports?: readonly { readonly port: number }[];
}

interface Pod {
  readonly metadata: { readonly labels: Readonly<Record<string, string>> };
  readonly spec: { readonly securityContext: { readonly runAsNonRoot?: boolean } };
}
