/**
 * Takes the shapes of Microsoft.App's requests out of the mappers of npm's `@azure/arm-appcontainers`:
 * `node test/simulators/azure/models/extract.ts [VERSION]`; later versions than 3.0.0 have no mappers. `facts.ts` adds
 * what the mappers do not say.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Bodies of the simulated operations. */
const roots = ["Job", "JobPatchProperties", "JobExecutionTemplate", "ManagedEnvironmentStorage"];

type Mappers = Record<string, unknown>;

/** The named mappers, and every one that they lead to. */
function reduce(mappers: Mappers): Mappers {
  const found: Mappers = {};
  const follow = (value: unknown): void => {
    if (typeof value !== "object" || value === null) {
      return;
    }
    for (const [key, inner] of Object.entries(value)) {
      if (key === "className" && typeof inner === "string" && found[inner] === undefined) {
        found[inner] = mappers[inner];
        follow(found[inner]);
      } else {
        follow(inner);
      }
    }
  };
  for (const name of roots) {
    follow({ className: name });
  }
  return found;
}

const fixtures = join(import.meta.dirname, "fixtures");
const scratch = mkdtempSync(join(tmpdir(), "sockerless-mappers-"));
try {
  const wanted = `@azure/arm-appcontainers@${process.argv[2] ?? "3.0.0"}`;
  writeFileSync(join(scratch, "package.json"), "{}"); // npm installs beside it, and not above
  execFileSync("npm", ["install", "--ignore-scripts", wanted], { cwd: scratch, stdio: "inherit" });
  const folder = join(scratch, "node_modules/@azure/arm-appcontainers");
  const mappers = (await import(join(folder, "dist/esm/models/mappers.js"))) as Mappers;
  const { version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as { version: string };
  writeFileSync(join(fixtures, "app.json"), `${JSON.stringify(reduce(mappers))}\n`);
  const source = `@azure/arm-appcontainers ${version}, https://github.com/Azure/azure-sdk-for-js, MIT License\n`;
  writeFileSync(join(fixtures, "SOURCE"), source);
} finally {
  rmSync(scratch, { recursive: true });
}
