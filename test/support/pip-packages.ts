/** Python packages from PyPI, in environments of their own outside the checkout. */
import { type FoundPackages, installPackages } from "./installed-packages.ts";

/**
 * Installs what a file of requirements names, once for each content of it: a directory for PYTHONPATH.
 *
 * @param name in the cache and in messages
 */
export function findPipPackages(name: string, requirements: string): Promise<FoundPackages> {
  const install = ["-m", "pip", "install", "--quiet", "--requirement", requirements, "--target"];
  return installPackages(name, requirements, (directory) => ["python3", ...install, directory]);
}

/** The environment in which Python has them; no bytecode is written beside programs of the checkout. */
export function pythonEnv(packages: string): NodeJS.ProcessEnv {
  return { ...process.env, PYTHONPATH: packages, PYTHONDONTWRITEBYTECODE: "1" };
}
