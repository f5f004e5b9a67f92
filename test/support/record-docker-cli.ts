/**
 * Records what the docker CLI sends: runs `docker create` with many flags against a server that only listens, and
 * writes each body to `test/fixtures/docker-cli`. Run by hand with a new CLI: `node dist/test/support/record-docker-cli.js`.
 */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

/** One recorded request. */
export interface RecordedRequest {
  /** `docker version`'s client version. */
  readonly client: string;
  /** The command line after `docker`. */
  readonly command: readonly string[];
  /** The API version that was negotiated. */
  readonly apiVersion: string;
  /** Path and query, without the version. */
  readonly path: string;
  readonly body: unknown;
}

const run = promisify(execFile);

const commands: Readonly<Record<string, { readonly args: readonly string[]; readonly apiVersion?: string }>> =
  {
    minimal: { args: ["busybox"] },
    "api-1.41": { args: ["--name", "old", "-v", "/a:/b", "busybox", "true"], apiVersion: "1.41" },
    interactive: { args: ["-i", "-t", "--rm", "busybox", "sh"] },
    process: {
      args: [
        ...["--name", "web", "--hostname", "web1", "--domainname", "example.org", "--user", "1000:1000"],
        ...["-e", "A=1", "-e", "B=two words", "-w", "/srv", "-l", "app=web", "-l", "empty"],
        ...["--entrypoint", "/bin/sh", "--stop-signal", "SIGUSR1", "--stop-timeout", "30", "--init"],
        ...["--restart", "on-failure:3", "--log-driver", "json-file", "--log-opt", "max-size=1m"],
        ...["--group-add", "audio", "--annotation", "k=v", "--cidfile", "/tmp/sockerless-never-written"],
        ...["busybox", "-c", "echo $A"],
      ],
    },
    resources: {
      args: [
        ...[
          "--memory",
          "256m",
          "--memory-swap",
          "1g",
          "--memory-reservation",
          "128m",
          "--memory-swappiness",
          "10",
        ],
        ...["--cpus", "1.5", "--cpu-shares", "512", "--cpuset-cpus", "0-1", "--cpuset-mems", "0"],
        ...["--cpu-period", "50000", "--cpu-quota", "25000", "--pids-limit", "100", "--oom-kill-disable"],
        ...[
          "--oom-score-adj",
          "500",
          "--shm-size",
          "128m",
          "--ulimit",
          "nofile=1024:2048",
          "--ulimit",
          "nproc=64",
        ],
        ...["--blkio-weight", "300", "--blkio-weight-device", "/dev/vda:200", "--cgroup-parent", "/x"],
        ...["--device-read-bps", "/dev/vda:1mb", "--device-write-iops", "/dev/vda:1000"],
        ...["--device", "/dev/fuse:/dev/fuse:rwm", "--device-cgroup-rule", "c 1:3 mr", "--gpus", "all"],
        "busybox",
      ],
    },
    security: {
      args: [
        ...["--cap-add", "NET_ADMIN", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"],
        ...["--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined"],
        ...["--privileged", "--read-only", "--userns", "host", "--pid", "host", "--ipc", "private"],
        ...["--sysctl", "net.core.somaxconn=1024", "--cgroupns", "private", "--runtime", "runc"],
        ...["--storage-opt", "size=10G", "busybox"],
      ],
    },
    network: {
      args: [
        ...["--network", "name=front,alias=web,ip=172.30.0.9,mac-address=02:42:ac:1e:00:09,gw-priority=5"],
        ...["--network", "back", "-p", "8080:80", "-p", "127.0.0.1:8443:443/tcp", "-p", "53:53/udp", "-P"],
        ...["--expose", "9000", "--dns", "1.1.1.1", "--dns-search", "example.org", "--dns-option", "ndots:2"],
        ...["--add-host", "db:10.0.0.5", "busybox"],
      ],
    },
    storage: {
      args: [
        ...[
          "-v",
          "/host:/in:ro",
          "-v",
          "data:/data",
          "-v",
          "/anonymous",
          "--tmpfs",
          "/run:size=16m,mode=1777",
        ],
        ...["--mount", "type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave,bind-recursive=disabled"],
        ...["--mount", "type=volume,src=v,dst=/v,volume-nocopy,volume-label=x=y,volume-subpath=sub"],
        ...["--mount", "type=volume,dst=/w,volume-driver=local,volume-opt=size=1m"],
        ...["--mount", "type=tmpfs,dst=/t,tmpfs-size=1048576,tmpfs-mode=0700"],
        ...["--mount", "type=image,src=busybox,dst=/image,image-subpath=bin"],
        ...["--volumes-from", "other:ro", "--volume-driver", "local", "busybox"],
      ],
    },
    health: {
      args: [
        ...["--health-cmd", "curl -f http://localhost/", "--health-interval", "5s", "--health-timeout", "2s"],
        ...[
          "--health-retries",
          "4",
          "--health-start-period",
          "1m",
          "--health-start-interval",
          "500ms",
          "busybox",
        ],
      ],
    },
    "no-health": { args: ["--no-healthcheck", "busybox"] },
  };

const directory = await mkdtemp(join(tmpdir(), "record-docker-cli-"));
const socket = join(directory, "docker.sock");
const received: { readonly url: string; readonly body: string }[] = [];
const server = createServer((request, response) => {
  response.setHeader("Api-Version", "1.51");
  response.setHeader("Ostype", "linux");
  if (request.url?.endsWith("/_ping") === true) {
    response.end(request.method === "HEAD" ? "" : "OK");
    return;
  }
  void request.toArray().then((chunks) => {
    received.push({ url: request.url ?? "", body: Buffer.concat(chunks as Buffer[]).toString("utf8") });
    response.statusCode = 201;
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify({ Id: "0".repeat(64), Warnings: [] }));
  });
});
await new Promise<void>((resolve) => server.listen(socket, resolve));

try {
  const { stdout } = await run("docker", ["--version"]);
  const client = /version ([^,]+)/.exec(stdout)?.[1] ?? "";
  const target = join(import.meta.dirname, "../../../test/fixtures/docker-cli");
  await mkdir(target, { recursive: true });
  for (const [name, { args, apiVersion }] of Object.entries(commands)) {
    received.length = 0;
    const command = ["create", ...args];
    const env = {
      ...process.env,
      DOCKER_HOST: `unix://${socket}`,
      ...(apiVersion === undefined ? {} : { DOCKER_API_VERSION: apiVersion }),
    };
    await run("docker", command, { env });
    await rm("/tmp/sockerless-never-written", { force: true });
    const [request] = received.filter(({ url }) => url.includes("/containers/create"));
    const [, version = "", path = ""] = /^\/v([\d.]+)(\/.*)$/.exec(request?.url ?? "") ?? [];
    const recorded: RecordedRequest = {
      client,
      command,
      apiVersion: version,
      path,
      body: JSON.parse(request?.body ?? "null") as unknown,
    };
    await writeFile(join(target, `${name}.json`), `${JSON.stringify(recorded, null, 2)}\n`);
  }
} finally {
  server.close();
  await rm(directory, { recursive: true });
}
