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
  const module = await readFile(new URL(import.meta.url));
  return await unpackedImages("testcontainers-images", [ryuk, module], async () => {
    const root = await busyboxRoot();
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
    const web = await webImage(root);
    const delayed = { ...web, config: { ...web.config, Cmd: ["sh", "-c", `sleep 2; exec ${serve}`] } };
    const redis = "echo Ready to accept connections; exec nc -lk -p 6379 -e cat";
    return [
      { image: await webImage(debian, busybox), tags: ["nginx:latest"] },
      { image: await webImage(root), tags: ["nginx:alpine"] },
      { image: delayed, tags: ["menedev/delayed-nginx:1.15.2"] },
      {
        image: image(
          { Cmd: ["sh", "-c", redis], ExposedPorts: { "6379/tcp": {} }, StopSignal: "SIGKILL" },
          root,
        ),
        tags: ["redis:latest"],
      },
      { image: image({ Cmd: ["sh"] }, root), tags: ["alpine:latest", "busybox:latest"] },
      { image: image({ Cmd: ["bash"] }, debian), tags: ["bash:5.2.26"] },
      { image: await ryukImage(ryuk), tags: ["testcontainers/ryuk:0.13.0"] },
    ];
  });
}

const serve = "busybox httpd -f -p 80 -h /usr/share/nginx/html";

/** An image that serves nginx's page at port 80. @param layers with busybox */
export async function webImage(...layers: readonly Buffer[]): Promise<FixtureImage> {
  const page = await tarOf([
    ...["usr/", "usr/share/", "usr/share/nginx/", "usr/share/nginx/html/"].map(
      (name) => ({ name, type: "directory" }) as const,
    ),
    { name: "usr/share/nginx/html/index.html", content: "<h1>Welcome to nginx!</h1>\n" },
  ]);
  const config = {
    Env: [path],
    Cmd: serve.split(" "),
    ExposedPorts: { "80/tcp": {} },
    StopSignal: "SIGKILL",
  };
  return { layers: [...layers, page], config };
}

/** The image of the stand-in for testcontainers' reaper. @param program built from test/programs/ryuk */
export async function ryukImage(program: Buffer): Promise<FixtureImage> {
  return {
    layers: [await tarOf([{ name: "ryuk", mode: 0o755, content: program }])],
    config: { Env: [path], Cmd: ["/ryuk"] },
  };
}
