import { readFileSync } from "node:fs";
import { findPackageJSON } from "node:module";

/** The version of sockerless, as in package.json. */
export const version: string = readVersion();

function readVersion(): string {
  const file = findPackageJSON("..", import.meta.url);
  if (file === undefined) {
    throw new Error("package.json of sockerless is missing");
  }
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}
