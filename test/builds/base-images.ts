/** Bases with the tools that this machine has, in the layout of the official images of their names. */
import { realpath } from "node:fs/promises";
import { dirname } from "node:path";

import { debianRoot } from "../conformance/debian-root.ts";
import { runCommand } from "../support/command.ts";
import { busyboxImage, type FixtureImage } from "../support/images.ts";
import { tarOf } from "../support/tar.ts";

const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** A base's name in a Dockerfile. */
export type BaseName = "busybox" | "golang" | "node" | "python" | "site";

/** Each is made when it is asked for. */
export const baseImages: Readonly<Record<BaseName, () => Promise<FixtureImage>>> = {
  busybox,
  golang: async () => {
    const { text } = await runCommand("go", ["env", "GOROOT"]);
    const unused = ["api", "doc", "misc", "test", "src/cmd", "testdata", "*_test.go"];
    return {
      layers: [
        await debianRoot(["dash"]),
        await packed(
          ...[
            "--directory",
            text.trim(),
            "--transform=s,^,usr/local/go/,S",
            ...unused.map((name) => `--exclude=${name}`),
          ],
          ...["bin", "go.env", "lib", "pkg", "src", "VERSION"],
        ),
      ],
      config: {
        Env: [`PATH=/go/bin:/usr/local/go/bin:${path}`, "GOTOOLCHAIN=local", "GOPATH=/go"],
        WorkingDir: "/go",
        Cmd: ["bash"],
      },
    };
  },
  node: async () => {
    const program = await realpath(process.execPath);
    const { text } = await runCommand("sh", ["-c", "command -v npm"]);
    const npm = dirname(dirname(await realpath(text.trim())));
    return {
      layers: [
        await debianRoot(["dash", "libatomic1", "libstdc++6"]),
        await packed("--directory", dirname(program), "--transform=s,^,usr/local/bin/,S", "node"),
        await packed("--directory", dirname(npm), "--transform=s,^,usr/local/lib/node_modules/,S", "npm"),
        await tarOf([
          {
            name: "usr/local/bin/npm",
            type: "symlink",
            linkname: "../lib/node_modules/npm/bin/npm-cli.js",
            mode: 0o777,
          },
          {
            name: "etc/passwd",
            content: "root:x:0:0:root:/root:/bin/bash\nnode:x:1000:1000::/home/node:/bin/bash\n",
          },
          { name: "etc/group", content: "root:x:0:\nnode:x:1000:\n" },
          { name: "home/", type: "directory" },
          { name: "home/node/", type: "directory", uid: 1000, gid: 1000 },
        ]),
      ],
      config: { Env: [`PATH=${path}`, `NODE_VERSION=${process.versions.node}`], Cmd: ["node"] },
    };
  },
  python: async () => {
    const packages = ["python3", "python3-pip", "python3-setuptools", "python3-venv", "python3-wheel"];
    const { code } = await runCommand("dpkg-query", ["--show", ...packages]);
    if (code !== 0) {
      throw new Error(`a base with Python needs Debian's ${packages.join(", ")}`);
    }
    return {
      layers: [await debianRoot(["dash", ...packages])],
      config: { Env: [`PATH=${path}`, "LANG=C.UTF-8"], Cmd: ["python3"] },
    };
  },
  // Its triggers say how a child is built, as those of `node:onbuild` did.
  site: async () =>
    await busybox({
      WorkingDir: "/srv",
      ExposedPorts: { "8080/tcp": {} },
      Cmd: ["httpd", "-f", "-p", "8080", "-h", "/srv"],
      OnBuild: [
        "ARG TITLE=untitled",
        "COPY --chown=app:app . /src",
        'RUN for page in /src/*.txt; do sed "s/@TITLE@/$TITLE/" $page > /srv/$(basename $page .txt).html; done && rm -r /src',
        "USER app",
        "HEALTHCHECK --interval=10s CMD wget -qO- http://127.0.0.1:8080/ || exit 1",
      ],
    }),
};

/** Like all that users build on, it has what a runtime mounts on. */
async function busybox(config?: FixtureImage["config"]): Promise<FixtureImage> {
  const image = await busyboxImage(config);
  const mountPoints = await tarOf(["dev/", "proc/", "sys/"].map((name) => ({ name, type: "directory" })));
  return { ...image, layers: [...image.layers, mountPoints] };
}

async function packed(...args: readonly string[]): Promise<Buffer> {
  const tar = await runCommand("tar", [
    ...["--create", "--numeric-owner", "--owner=0", "--group=0", "--sort=name", "--mtime=@0"],
    ...args,
  ]);
  if (tar.code !== 0) {
    throw new Error(`tar ${args.join(" ")}: ${tar.errorText}`);
  }
  return tar.stdout;
}
