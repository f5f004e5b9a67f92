/** Ansible and its collection community.docker, from PyPI by pip, for a tour of it. */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";

import { runCommand } from "../support/command.ts";
import { cached } from "./cache.ts";

/** `ansible` holds the collections; its programs are ansible-core's. */
const versions = { ansible: "11.1.0", "ansible-core": "2.18.1", requests: "2.32.3" };
const collections = ["community/docker", "community/library_inventory_filtering_v1"];

/** A directory for PYTHONPATH that has `bin/ansible-playbook` and the collections, too. */
export function ansible(): Promise<string> {
  return cached(`ansible-${versions.ansible}`, async (temporary) => {
    const download = `${temporary}.wheel`;
    await mkdir(download, { recursive: true });
    try {
      await pip("install", "--target", temporary, required("ansible-core"), required("requests"));
      await pip("download", "--no-deps", "--dest", download, required("ansible"));
      const folders = collections.map((name) => `ansible_collections/${name}/*`);
      const wheel = join(download, `ansible-${versions.ansible}-py3-none-any.whl`);
      await run("unzip", ["-q", wheel, ...folders, "-d", temporary]);
    } finally {
      await rm(download, { recursive: true, force: true });
    }
  });
}

function required(name: keyof typeof versions): string {
  return `${name}==${versions[name]}`;
}

async function pip(command: string, ...args: readonly string[]): Promise<void> {
  await run("python3", ["-m", "pip", command, "--quiet", ...args]);
}

async function run(program: string, args: readonly string[]): Promise<void> {
  const { code, errorText } = await runCommand(program, args, {
    env: { ...process.env, PIP_ROOT_USER_ACTION: "ignore", PIP_DISABLE_PIP_VERSION_CHECK: "1" },
    timeout: 900_000,
  });
  if (code !== 0) {
    throw new Error(`Ansible cannot be installed (Debian: python3-pip, unzip): ${errorText}`);
  }
}
