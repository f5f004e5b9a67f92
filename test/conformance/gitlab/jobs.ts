/** Jobs that GitLab Runner runs, and what must come of each. */

/** A container's image in a job, as the coordinator's API has it. */
export type JobImage =
  | string
  | {
      readonly name: string;
      readonly alias?: string;
      readonly entrypoint?: readonly string[];
      readonly command?: readonly string[];
      /** Policies, of those that the runner's configuration allows. */
      readonly pull_policy?: readonly string[];
      readonly variables?: readonly {
        readonly key: string;
        readonly value: string;
        readonly public: boolean;
      }[];
    };

export interface Job {
  readonly name: string;
  readonly image: string | Exclude<JobImage, string>;
  readonly script: readonly string[];
  readonly afterScript?: readonly string[];
  readonly services?: readonly Exclude<JobImage, string>[];
  readonly variables?: Readonly<Record<string, string>>;
  /** Variables whose values come as files. */
  readonly files?: Readonly<Record<string, string>>;
  readonly cache?: readonly object[];
  readonly artifacts?: readonly object[];
  /** Names of jobs whose artifacts it gets. */
  readonly needs?: readonly string[];
  /** Seconds; 120 unless said. */
  readonly timeout?: number;
  /** Commands of its helper before it fetches the sources. */
  readonly beforeSources?: readonly string[];
  /** It is cancelled once its log has {@link cancelAt}: at once, or so that its after_script still runs. */
  readonly cancel?: "canceled" | "canceling";
  /** Unless said, a line `start`. Its uploads have no answer. */
  readonly cancelAt?: RegExp;
  /** Meets it once its log has `start`; after the runner was killed, another one runs the jobs that follow. */
  readonly mishap?: "its container is killed" | "the runner is killed";
  readonly expect: Expected;
  /** Why it runs on this machine only. */
  readonly onMachine?: string;
}

export interface Expected {
  /** `success` unless said. */
  readonly status?: "failed" | "canceled";
  readonly exitCode?: number;
  readonly reason?: string;
  /** Texts that its log must have. */
  readonly has?: readonly string[];
  readonly hasNot?: readonly string[];
}

const debian = "debian:job";
const networkPerBuild = { FF_NETWORK_PER_BUILD: "1" };

/** So many jobs alike, each with a service in a network of its own. */
export function alike(count: number): readonly Job[] {
  return Array.from({ length: count }, (_, at) => ({
    name: `one of ${count}, ${at}`,
    image: debian,
    variables: networkPerBuild,
    services: [{ name: "web:job", alias: "api" }],
    script: ["curl -sf --retry 20 --retry-connrefused --retry-delay 1 http://api:8080/", "echo $CI_JOB_NAME"],
    timeout: 300,
    expect: { has: [`one of ${count}, ${at}\n`, "Job succeeded"] },
  }));
}

export const jobs: readonly Job[] = [
  {
    name: "simple",
    image: debian,
    script: ['echo "this is $CI_JOB_NAME"', "sh sub/build.sh", "git log --oneline", "pwd; id -u"],
    afterScript: ["echo after $CI_JOB_STATUS"],
    expect: { has: ["this is simple", "built", "/builds/group/project", "after success", "Job succeeded"] },
  },
  {
    name: "exit code 1",
    image: debian,
    script: ["echo before", "exit 1", "echo never"],
    afterScript: ["echo after ran"],
    expect: {
      status: "failed",
      exitCode: 1,
      reason: "script_failure",
      has: ["after ran", "exit code 1"],
      hasNot: ["\nnever"],
    },
  },
  {
    name: "exit code 42",
    image: debian,
    script: ["exit 42"],
    expect: { status: "failed", exitCode: 42, reason: "script_failure" },
  },
  { name: "busybox", image: "busybox:job", script: ["ls file1"], expect: { has: ["file1"] } },
  {
    name: "entrypoint of the image",
    image: "entrypoint:job",
    script: ["echo E=$FROM_ENTRYPOINT I=$IN_IMAGE"],
    expect: { has: ["E=yes I=1"] },
  },
  {
    name: "entrypoint that the job clears",
    image: { name: "failing-entrypoint:job", entrypoint: [""] },
    script: ["echo cleared"],
    expect: { has: ["\ncleared"], hasNot: ["entrypoint ran"] },
  },
  {
    name: "service that has died",
    image: debian,
    services: [{ name: "dead:job", alias: "gone" }],
    script: ["echo ran nevertheless"],
    expect: { has: ["ran nevertheless", "service died", "probably didn't start properly"] },
  },
  {
    name: "services in a network of the build",
    image: debian,
    variables: networkPerBuild,
    services: [{ name: "web:job", alias: "api,other-api" }, { name: "team/slow-web:job" }],
    script: [
      "curl -sf http://api:8080/",
      "curl -sf http://other-api:8080/",
      "curl -sf http://team-slow-web:8080/ && echo slow one",
      "curl -sf http://team__slow-web:8080/ && echo slow one again",
    ],
    expect: { has: ["slow one\n", "slow one again"], hasNot: ["probably didn't start properly"] },
  },
  {
    name: "logs of services",
    image: debian,
    variables: { ...networkPerBuild, CI_DEBUG_SERVICES: "true" },
    services: [{ name: "team/slow-web:job", alias: "logged" }],
    script: ["curl -sf --retry 20 --retry-connrefused --retry-delay 1 http://logged:8080/", "sleep 2"],
    expect: { has: ["service is up", "served"] },
  },
  {
    name: "service with entrypoint, command and variables",
    image: debian,
    variables: networkPerBuild,
    services: [
      {
        name: "failing-entrypoint:job",
        alias: "made",
        entrypoint: ["sh", "-c"],
        command: ["mkdir /w; echo $MADE > /w/index.html; httpd -f -p 80 -h /w"],
        variables: [{ key: "MADE", value: "made by the job", public: true }],
      },
    ],
    script: ["curl -sf --retry 20 --retry-connrefused --retry-delay 1 http://made/"],
    expect: { has: ["made by the job"] },
  },
  {
    name: "cache is made",
    image: debian,
    cache: [{ key: "one", untracked: false, policy: "pull-push", paths: ["cached/"], when: "on_success" }],
    script: ["mkdir -p cached; echo kept for later > cached/x; head -c 3000000 /dev/urandom > cached/big"],
    expect: { has: ["Created cache"] },
  },
  {
    name: "cache is used",
    image: debian,
    cache: [{ key: "one", policy: "pull", paths: ["cached/"], when: "on_success" }],
    script: ["cat cached/x; ls -l cached/big"],
    expect: { has: ["kept for later", "3000000", "Successfully extracted cache"] },
  },
  {
    name: "artifacts are made",
    image: debian,
    artifacts: [
      {
        name: "made",
        paths: ["out/"],
        when: "on_success",
        artifact_type: "archive",
        artifact_format: "zip",
      },
    ],
    script: [
      "mkdir -p out/a; echo of another job > out/a/f; head -c 5000000 /dev/urandom > out/b; chmod 755 out/b",
    ],
    expect: { has: ["Uploading artifacts"] },
  },
  {
    name: "artifacts are used",
    image: "busybox:job",
    needs: ["artifacts are made"],
    script: ["cat out/a/f; ls -l out/b"],
    expect: { has: ["of another job", "-rwxr-xr-x", "5000000", "Downloading artifacts"] },
  },
  {
    name: "variable as a file",
    image: debian,
    files: { A_FILE: "line 1\nline 2\n" },
    script: ["cat $A_FILE"],
    expect: { has: ["line 2"] },
  },
  {
    name: "volumes, tmpfs, hosts, limits",
    image: debian,
    onMachine: "a task has no directories of the host",
    script: [
      "cat /host/hello; touch /host/x || echo read-only",
      "echo kept > /named/f",
      "mount | grep /scratch",
      "grep extra /etc/hosts",
      "ulimit -n",
    ],
    expect: { has: ["hello of the host", "read-only", "/scratch type tmpfs", "extra.test", "2048"] },
  },
  {
    name: "a named volume keeps what it has",
    image: debian,
    onMachine: "a job that has directories of the host writes what is kept",
    script: ["cat /named/f"],
    expect: { has: ["kept"] },
  },
  {
    name: "the daemon's socket",
    image: debian,
    onMachine: "a task has the socket only where inner_socket is set",
    script: [
      "curl -s --unix-socket /var/run/docker.sock http://x/containers/json | grep -c gitlab-runner.job.id",
    ],
    expect: { has: ["\n1"] },
  },
  {
    name: "30,000 lines",
    image: debian,
    script: ['for i in $(seq 30000); do echo "row $i of this log"; done', "echo last row"],
    expect: { has: ["row 1 of", "row 15000 of", "row 30000 of", "last row"] },
  },
  {
    name: "an image without a shell",
    image: "hello-world:job",
    script: ["echo never"],
    expect: { status: "failed" },
  },
  {
    name: "sources cloned",
    image: debian,
    variables: { GET_SOURCES_ATTEMPTS: "2", GIT_STRATEGY: "clone" },
    script: ["cat file1"],
    expect: { has: ["first file"] },
  },
  {
    name: "no sources",
    image: debian,
    variables: { GIT_STRATEGY: "none" },
    script: ["test -d . && echo here"],
    expect: { has: ["\nhere"] },
  },
  {
    name: "an init process",
    image: debian,
    variables: { FF_USE_INIT_WITH_DOCKER_EXECUTOR: "1" },
    script: ['tr "\\0" " " < /proc/1/cmdline; echo'],
    expect: { has: ["init"] },
  },
  {
    name: "files of the image's user",
    image: "user:job",
    variables: { FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR: "1" },
    script: ["ls -ln file1; touch own; id -u"],
    expect: { has: ["1234"] },
  },
  {
    name: "too long",
    image: debian,
    timeout: 8,
    script: ["echo start; sleep 100; echo never"],
    expect: { status: "failed", reason: "job_execution_timeout", hasNot: ["\nnever"] },
  },
  {
    name: "cancelled",
    image: debian,
    script: ["echo start; sleep 100; echo never"],
    cancel: "canceled",
    expect: { status: "canceled", hasNot: ["\nnever"] },
  },
  {
    name: "cancelled with an after_script",
    image: debian,
    script: ["echo start; sleep 100; echo never"],
    afterScript: ["echo after cancel"],
    cancel: "canceling",
    expect: { status: "canceled", has: ["after cancel"], hasNot: ["\nnever"] },
  },
  {
    name: "cancelled with a script that traps SIGTERM",
    image: debian,
    script: ['trap "echo got TERM; exit 0" TERM; echo start; sleep 100; echo never'],
    afterScript: ["echo after cancel"],
    cancel: "canceling",
    expect: { status: "canceled", has: ["after cancel"], hasNot: ["\nnever"] },
  },
  {
    name: "cancelled while it waits for a service",
    image: debian,
    services: [{ name: "team/slow-web:job", command: ["sleep", "100"] }],
    script: ["echo; echo never"],
    cancel: "canceled",
    cancelAt: /Waiting for services/,
    expect: { status: "canceled", hasNot: ["\nnever"] },
  },
  {
    name: "cancelled before its sources are fetched",
    image: debian,
    beforeSources: ["echo fetching; while sleep 1; do echo; done"],
    script: ["echo; echo never"],
    cancel: "canceled",
    cancelAt: /^fetching$/m,
    expect: { status: "canceled", hasNot: ["\nnever"] },
  },
  {
    name: "cancelled in its after_script",
    image: debian,
    script: ["echo fine"],
    afterScript: ["echo; echo late; while sleep 1; do echo; done"],
    cancel: "canceled",
    cancelAt: /^late$/m,
    expect: { status: "canceled" },
  },
  {
    name: "cancelled while it uploads artifacts",
    image: debian,
    script: ["echo made >made"],
    artifacts: [
      { name: "made", paths: ["made"], when: "always", artifact_type: "archive", artifact_format: "zip" },
    ],
    cancel: "canceled",
    cancelAt: /Uploading artifacts/,
    expect: { status: "canceled" },
  },
  {
    name: "container that is killed",
    image: debian,
    script: ["echo start; sleep 100; echo never"],
    afterScript: ["echo after kill"],
    mishap: "its container is killed",
    expect: {
      status: "failed",
      exitCode: 137,
      reason: "script_failure",
      has: ["after kill", "exit code 137"],
      hasNot: ["\nnever"],
    },
  },
  {
    name: "runner that is killed",
    image: debian,
    variables: networkPerBuild,
    services: [{ name: "web:job", alias: "api" }],
    script: ["echo start; sleep 100; echo never"],
    mishap: "the runner is killed",
    expect: {
      status: "failed",
      has: [
        ...["left: build running\n", "left: predefined exited\n", "left: web-0 running\n"],
        ...["left: network\n", "cleared: nothing is left\n"],
      ],
      hasNot: ["\nnever"],
    },
  },
  { name: "one more", image: debian, script: ["echo fine"], expect: { has: ["fine"] } },
];

/** Jobs, and those whose artifacts they need, in their order. */
export function neededFor(chosen: readonly Job[]): readonly Job[] {
  const needed = new Set(chosen.flatMap(({ needs = [] }) => needs));
  return [...jobs.filter((job) => !chosen.includes(job) && needed.has(job.name)), ...chosen];
}
