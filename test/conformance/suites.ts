/** The suites, and what of them is not asked of whom. */
import { join } from "node:path";

import { checkout } from "../support/daemon.ts";
import { ansible } from "./ansible.ts";
import {
  buildkitImageNames,
  buildkitImages,
  buildkitPackage,
  buildkitPrograms,
  buildkitSource,
  buildkitSuite,
} from "./buildkit.ts";
import { dockerPy } from "./docker-py.ts";
import { javaCommand, javaImages, javaPrograms, type JavaSuite, pluginsConfig } from "./java.ts";
import { gitlabImages } from "./gitlab/images.ts";
import { gitlabRunner } from "./gitlab/runner.ts";
import { mobySource, mobySuite } from "./moby.ts";
import { skippedOf, skipPattern } from "./skipped.ts";
import { testcontainersImages, testcontainersSource, testcontainersSuite } from "./testcontainers.ts";

/** One suite. */
export interface Suite {
  readonly name: string;
  /** Present if its tests are subtests of others, which run whether or not one below them is chosen. */
  readonly areSubtests?: true;
  /** Programs that it needs besides those of all suites, with Debian's packages. */
  readonly programs?: Readonly<Record<string, string>>;
  /** Makes what runs. */
  readonly prepare: (only: string | undefined) => Promise<Prepared>;
}

/** A suite's command and its surroundings in a cell. */
export interface Prepared {
  readonly command: readonly string[];
  readonly workingDirectory: string;
  readonly isGoTest: boolean;
  readonly env?: Readonly<Record<string, string>>;
  /** In place of the frozen images. */
  readonly images?: string;
}

const minutes = 60;

/** All of them, the quick and telling ones first. */
export const suites: readonly Suite[] = [
  {
    name: "docker-py",
    prepare: async (only) => ({
      command: [
        "python3",
        join(checkout, "test/conformance/docker-py-tour.py"),
        ...(only === undefined ? [] : [only]),
      ],
      workingDirectory: checkout,
      isGoTest: false,
      env: { PYTHONPATH: await dockerPy(), PYTHONDONTWRITEBYTECODE: "1" },
    }),
  },
  {
    name: "ansible",
    programs: { unzip: "unzip" },
    prepare: async (only) => {
      const installed = await ansible();
      return {
        command: [
          ...["python3", join(installed, "bin/ansible-playbook"), "tour.yml"],
          ...["--extra-vars", JSON.stringify({ only: only ?? "" })],
        ],
        workingDirectory: join(checkout, "test/programs/ansible"),
        isGoTest: false,
        env: {
          PYTHONPATH: installed,
          PYTHONDONTWRITEBYTECODE: "1",
          ANSIBLE_COLLECTIONS_PATH: installed,
          LC_ALL: "C.UTF-8",
          DOCKER_CONFIG: await pluginsConfig(),
        },
      };
    },
  },
  {
    name: "gitlab-runner",
    programs: { git: "git", curl: "curl" },
    prepare: async (only) => {
      const programs = await gitlabRunner();
      return {
        command: [
          ...[
            process.execPath,
            "--enable-source-maps",
            join(checkout, "dist/test/conformance/gitlab/run.js"),
            programs,
          ],
          ...(only === undefined ? [] : [only]),
        ],
        workingDirectory: "/cell",
        isGoTest: false,
        images: await gitlabImages(programs),
      };
    },
  },
  testcontainersGo("."),
  testcontainersGo("network"),
  java("testcontainers-java"),
  java("docker-java"),
  ...["container", "image", "volume", "network", "network/bridge", "networking", "system", "session"].map(
    (name) => integration(name),
  ),
  integration("capabilities"),
  integrationCli("api", "^TestDockerAPISuite$"),
  integrationCli("run", "^TestDockerCLIRunSuite$"),
  integrationCli("network", "^TestDockerNetworkSuite$|^TestDockerCLINetworkSuite$"),
  integrationCli("registry", "^TestDockerRegistry.*Suite$"),
  integrationCli("build", "^TestDockerCLIBuildSuite$"),
  integrationCli(
    "cli",
    "^TestDockerCLI.*Suite$",
    "^TestDockerCLI(Run|Network|Build|PluginLogDriver|Plugins)Suite$",
  ),
  buildkit(),
];

/** BuildKit's tests of Dockerfiles, beside a buildkitd of the release that the builder is made of. */
function buildkit(): Suite {
  const name = "buildkit/dockerfile";
  return {
    name,
    areSubtests: true,
    prepare: async (only) => ({
      command: [
        ...goTest(
          await buildkitSuite(),
          name,
          only === undefined ? "^TestIntegration$" : `^TestIntegration$/(${only})`,
        ),
        "-test.parallel=1", // They share a daemon.
      ],
      workingDirectory: join(await buildkitSource(), buildkitPackage),
      isGoTest: true,
      env: {
        BUILDKIT_PROGRAMS: await buildkitPrograms(),
        BUILDKIT_IMAGES: buildkitImageNames.join(" "),
        BUILDKIT_UNSUPPORTED: "security_mode cni_network cdi",
        FRONTEND_BUILTIN_ONLY: "1",
      },
      images: await buildkitImages(),
    }),
  };
}

/** testcontainers-go's own tests: how Docker's API is used by those who test with it. */
function testcontainersGo(packagePath: string): Suite {
  const name = packagePath === "." ? "testcontainers-go" : `testcontainers-go/${packagePath}`;
  return {
    name,
    prepare: async (only) => ({
      command: goTest(await testcontainersSuite(packagePath), name, only),
      workingDirectory: join(await testcontainersSource(), packagePath),
      isGoTest: true,
      images: await testcontainersImages(),
    }),
  };
}

/** Clients in Java: docker-java's own tests, and a tour of testcontainers (test/programs/java). */
function java(name: JavaSuite): Suite {
  return {
    name,
    programs: javaPrograms,
    prepare: async (only) => ({
      command: await javaCommand(name, skippedOf(name), only),
      workingDirectory: "/cell",
      isGoTest: false,
      env: { DOCKER_CONFIG: await pluginsConfig(), TESTCONTAINERS_REUSE_ENABLE: "true" },
      images: await javaImages(),
    }),
  };
}

/** A package of moby's tests of the API. */
function integration(name: string): Suite {
  return {
    name: `integration/${name}`,
    prepare: async (only) => ({
      command: goTest(await mobySuite(`integration/${name}`), `integration/${name}`, only),
      workingDirectory: join(await mobySource(), "integration", name),
      isGoTest: true,
    }),
  };
}

/** Suites of moby's tests of the command line. */
function integrationCli(name: string, run: string, except?: string): Suite {
  return {
    name: `integration-cli/${name}`,
    areSubtests: true,
    prepare: async (only) => ({
      command: goTest(
        await mobySuite("integration-cli"),
        `integration-cli/${name}`,
        only === undefined ? run : `(${run})/${only.includes("/") ? only : `(${only})`}`,
        except,
      ),
      workingDirectory: join(await mobySource(), "integration-cli"),
      isGoTest: true,
    }),
  };
}

/** The command line of a test binary. */
export function goTest(binary: string, suite: string, run: string | undefined, except?: string): string[] {
  const skipped = [skipPattern(suite), except].filter((each) => each !== undefined && each !== "").join("|");
  return [
    binary,
    "-test.v=test2json",
    `-test.timeout=${90 * minutes}s`,
    ...(run === undefined ? [] : [`-test.run=${run}`]),
    ...(skipped === "" ? [] : [`-test.skip=${skipped}`]),
  ];
}
