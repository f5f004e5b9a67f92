/** docker-py, from PyPI by pip, for the tour. */
import { runCommand } from "../support/command.ts";
import { cached } from "./cache.ts";

const version = "7.2.0";

/** A directory for PYTHONPATH. */
export function dockerPy(): Promise<string> {
  return cached(`docker-py-${version}`, async (temporary) => {
    const { code, errorText } = await runCommand(
      "python3",
      ["-m", "pip", "install", "--quiet", "--target", temporary, `docker==${version}`],
      {
        env: { ...process.env, PIP_ROOT_USER_ACTION: "ignore", PIP_DISABLE_PIP_VERSION_CHECK: "1" },
        timeout: 600_000,
      },
    );
    if (code !== 0) {
      throw new Error(`docker-py cannot be installed (Debian: python3-pip): ${errorText}`);
    }
  });
}
