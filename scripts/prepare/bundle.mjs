/**
 * The programs of the daemon in few files, dist/bundle: Node takes half a second to find and link a backend's 700
 * modules one by one, of which most are packages'. Tests run dist/src, which is compiled module by module.
 */
import { readdir, readFile, rm } from "node:fs/promises";
import { join, relative } from "node:path";

import { root } from "./run.mjs";

/** The files that start as a process or as a worker thread, or are loaded by their names. */
const programs = [
  ...[
    "cli/sockerless",
    "cli/main",
    "cli/serve-process",
    "cli/serve-detached",
    "cli/read-config",
    "cli/child",
  ],
  ...["frontend/main", "frontend/streams/worker", "frontend/bodies/conversion-thread"],
  ...["local", "ecs", "aca", "kubernetes"].map((backend) => `backends/${backend}/main`),
  ...["backends/server/port/port-thread", "backends/cloud/callback/relay-thread"],
];

/** Packages that load native code or files of their own, or that `require` loads when they are first needed. */
const external = ["classic-level", "level", "pino", "piscina", "re2js", "ws"];

/** Added to each output: `require` for CommonJS packages, and the URL in dist/bundle that a module of src/ counts as its own. */
const banner = `
import { createRequire as $createRequire, findPackageJSON as $findPackageJSON } from "node:module";
import { pathToFileURL as $pathToFileURL } from "node:url";
const require = $createRequire(import.meta.url);
const $urlOf = (module) => new URL("dist/bundle/" + module, $pathToFileURL($findPackageJSON("..", import.meta.url))).href;
`;

/** Keeps `import.meta.url` relative to src/: modules that several programs share end up in files of another directory. */
const moduleUrls = {
  name: "module-urls",
  setup(build) {
    const sources = join(root, "src");
    build.onLoad({ filter: /\/src\/.*\.ts$/ }, async ({ path }) => {
      const text = await readFile(path, "utf8");
      if (!path.startsWith(`${sources}/`) || !text.includes("import.meta.url")) {
        return undefined;
      }
      const module = JSON.stringify(relative(sources, path));
      return { contents: text.replaceAll("import.meta.url", `$urlOf(${module})`), loader: "ts" };
    });
  },
};

/** Bundles src/ anew. A daemon that runs meanwhile finds all files: those of another content have another name. */
export async function bundle() {
  const { build } = await import("esbuild"); // Not before npm has installed it.
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: programs.map((program) => `src/${program}.ts`),
    outbase: "src",
    outdir: "dist/bundle",
    chunkNames: "shared/[name]-[hash]",
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node24",
    keepNames: true,
    sourcemap: true,
    sourcesContent: false,
    external,
    banner: { js: banner },
    plugins: [moduleUrls],
    logLevel: "warning",
    metafile: true,
  });
  const former = await readdir(join(root, "dist/bundle"), { recursive: true, withFileTypes: true });
  for (const file of former.filter((entry) => entry.isFile())) {
    const path = join(file.parentPath, file.name);
    if (!(relative(root, path) in metafile.outputs)) {
      await rm(path);
    }
  }
}
