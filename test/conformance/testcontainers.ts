/** testcontainers-go by its Go module, and stand-ins for the images that its tests use. */
import { cp, readFile } from "node:fs/promises";

import type { FixtureImage } from "../support/images.ts";
import { buildProgram } from "../support/programs.ts";
import { tarOf } from "../support/tar.ts";
import { cached } from "./cache.ts";
import { debianRoot } from "./debian-root.ts";
import { busyboxRoot, path, unpackedImages } from "./frozen-images.ts";
import { downloadModule, goIn, makeWritable } from "./moby.ts";

const version = "v0.40.0";
const folder = `testcontainers-go-${version}`;

/** The unpacked source. */
export function testcontainersSource(): Promise<string> {
  return cached(`${folder}/source`, async (temporary) => {
    await cp(await downloadModule("github.com/testcontainers/testcontainers-go", version), temporary, {
      recursive: true,
    });
    await makeWritable(temporary);
  });
}

/** The test binary of a package of it. */
export async function testcontainersSuite(packagePath: string): Promise<string> {
  const source = await testcontainersSource();
  const name = packagePath === "." ? "testcontainers" : packagePath.replaceAll("/", "-");
  return await cached(`${folder}/suites/${name}.test`, (temporary) =>
    goIn(source, ["test", "-c", "-o", temporary, `./${packagePath}`]),
  );
}

/** A directory with the images, unpacked. */
export async function testcontainersImages(): Promise<string> {
  const ryuk = await readFile(await buildProgram("ryuk"));
  return await unpackedImages("testcontainers-images", [ryuk], async () => {
    const root = await busyboxRoot();
    const page = await tarOf([
      ...["usr/", "usr/share/", "usr/share/nginx/", "usr/share/nginx/html/"].map(
        (name) => ({ name, type: "directory" }) as const,
      ),
      { name: "usr/share/nginx/html/index.html", content: "<h1>Welcome to nginx!</h1>\n" },
    ]);
    const debian = await debianRoot();
    // Tests run scripts with bash in the one, with sh in the other.
    const busybox = await tarOf([
      { name: "usr/", type: "directory" },
      { name: "usr/bin/", type: "directory" },
      { name: "usr/bin/busybox", mode: 0o755, content: await readFile("/bin/busybox") },
    ]);
    const image = (config: object, ...layers: readonly Buffer[]): FixtureImage => ({
      layers,
      config: { Env: [path], ...config },
    });
    const nginx = (layers: readonly Buffer[], ...command: readonly string[]): FixtureImage =>
      image({ Cmd: command, ExposedPorts: { "80/tcp": {} }, StopSignal: "SIGKILL" }, ...layers, page);
    const serve = "busybox httpd -f -p 80 -h /usr/share/nginx/html";
    const redis = "echo Ready to accept connections; exec nc -lk -p 6379 -e cat";
    return [
      { image: nginx([debian, busybox], ...serve.split(" ")), tags: ["nginx:latest"] },
      { image: nginx([root], ...serve.split(" ")), tags: ["nginx:alpine"] },
      { image: nginx([root], "sh", "-c", `sleep 2; exec ${serve}`), tags: ["menedev/delayed-nginx:1.15.2"] },
      {
        image: image(
          { Cmd: ["sh", "-c", redis], ExposedPorts: { "6379/tcp": {} }, StopSignal: "SIGKILL" },
          root,
        ),
        tags: ["redis:latest"],
      },
      { image: image({ Cmd: ["sh"] }, root), tags: ["alpine:latest", "busybox:latest"] },
      { image: image({ Cmd: ["bash"] }, debian), tags: ["bash:5.2.26"] },
      {
        image: image({ Cmd: ["/ryuk"] }, await tarOf([{ name: "ryuk", mode: 0o755, content: ryuk }])),
        tags: ["testcontainers/ryuk:0.13.0"],
      },
    ];
  });
}
