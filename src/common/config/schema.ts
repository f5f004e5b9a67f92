/**
 * Every setting of sockerless: the single source of the YAML file's keys, the environment variables, the flags, their
 * defaults and `docs/configuration.md`. Keys are spelled as in the YAML file.
 */
import { object } from "../documents.ts";

import {
  amount,
  count,
  describe,
  duration,
  listOf,
  mapping,
  matching,
  onOff,
  oneOf,
  optional,
  path,
  size,
  text,
  withDefault,
} from "./values.ts";

/** Names of the backends. */
export const backendNames = ["local", "ecs", "aca", "kubernetes"] as const;
/** One of {@link backendNames}. */
export type BackendName = (typeof backendNames)[number];

const listenAddress = matching(
  /^(unix:\/\/\/[^\0]+|tcp:\/\/(\[[0-9a-fA-F:.]+\]|[^\s/:]*):\d{1,5})$/,
  "`unix:///path` or `tcp://address:port`",
);
const backendAddress = matching(
  /^(unix:\/\/\/[^\0]+|https:\/\/(\[[0-9a-fA-F:.]+\]|[^\s/:]+):\d{1,5})$/,
  "`unix:///path` or `https://host:port`",
);
const callbackUrl = matching(/^(https|wss):\/\/\S+$/, "an https:// or wss:// URL");
const arn = matching(/^arn:[^\s]+$/, "an ARN");

/** The address at which the backend of a section waits for agents that call. */
function callbackListenIn(section: string) {
  return describe(
    optional(matching(/^tcp:\/\/(\[[0-9a-fA-F:.]+\]|[^\s/:]*):\d{1,5}$/, "`tcp://address:port`")),
    "Where this backend waits for agents that call, with TLS of its own making; who they are is settled inside.",
    { defaultText: `all addresses, at the port of \`${section}.callback_url\`` },
  );
}

/** Settings of cloud agents, shared by all cloud backends. */
const cloudAgentShape = {
  agent_ca: describe(
    optional(text("path or PEM")),
    "Certificate authority that lets this instance, and nobody else, talk to its agents: a file of mode 0600 with key and certificate (made when it is missing), or the PEM text itself, for platforms that fill an environment variable from a secret. Keep it apart from the state directory: with it a lost state directory can be rebuilt.",
    {
      defaultText: "`/etc/sockerless/agent-ca.pem`; not as root `$XDG_CONFIG_HOME/sockerless/agent-ca.pem`",
      secret: true,
    },
  ),
  linger: describe(
    withDefault(duration(), 60_000),
    "How long a container's task stays after its main process has ended, for `cp`, `diff`, `commit`, `export` and a quick new start; 0 with `--rm`.",
  ),
  drain_timeout: describe(
    withDefault(duration(), 20_000),
    "How long the agent waits for the backend to fetch the log of an ended container, when the linger is shorter.",
  ),
  log_drain_max: describe(
    withDefault(size(), 64 * 1024 ** 2),
    "The most of a container's log that the backend keeps; of a longer one the cloud's log alone is shown.",
  ),
  start_timeout: describe(
    withDefault(duration(), 5 * 60_000),
    "How long a start may take in the cloud, image pull included, before it fails.",
  ),
  poll_interval: describe(
    withDefault(duration(), 1000),
    "How often the state of all containers is asked of the cloud, in one batch.",
  ),
} as const;

/** Settings of clouds whose containers may be given a Docker socket. */
const innerSocketShape = {
  inner_socket: describe(
    withDefault(oneOf("off", "own", "full"), "off"),
    "What a container gets that binds `/var/run/docker.sock`: `off`: nothing; `own`: a socket that shows and changes only what was made through it, the container itself and the networks that it is in; `full`: one that may do whatever the frontend's clients may. Through either a container starts others at your cost.",
  ),
} as const;

/** The `ecs:` section. */
export const ecsSchema = object({
  region: describe(text(), "AWS region of the cluster."),
  cluster: describe(text(), "Name or ARN of the ECS cluster; it must exist."),
  subnets: describe(listOf(text("subnet IDs")), "Subnets that tasks run in."),
  security_groups: describe(
    listOf(text("security group IDs")),
    "Security groups of the default network; they must let the frontend reach port 9111.",
  ),
  execution_role_arn: describe(arn, "Role with which ECS pulls images and writes logs."),
  task_role_arn: describe(optional(arn), "Role that the containers get."),
  efs_filesystem_id: describe(
    optional(text("file system ID")),
    "EFS file system of volumes; without it a volume is a directory of the task that mounts it, and nothing is shared.",
  ),
  efs_access_point_limit: describe(
    withDefault(count(), 1000),
    "Access points that the file system may have; from four fifths of them on a warning is logged. AWS's own limit is 10,000 today.",
  ),
  efs_security_group_id: describe(
    optional(text("security group ID")),
    "Group of the EFS mount targets; NFS ingress from a group of containers with volumes is added to it.",
  ),
  efs_iam: describe(
    withDefault(onOff(), false),
    "Mounts file systems with the rights of `ecs.task_role_arn`, for one whose policy does not let everybody in.",
  ),
  log_group: describe(withDefault(text(), "/sockerless/containers"), "CloudWatch log group of containers."),
  capacity_provider: describe(
    withDefault(text(), "FARGATE"),
    "Capacity provider of tasks; `FARGATE_SPOT` is cheaper and may be interrupted.",
  ),
  spot_fallback: describe(
    withDefault(onOff(), false),
    "Starts a task on demand, at its price, where `FARGATE_SPOT` has no capacity for it.",
  ),
  architecture: describe(withDefault(oneOf("amd64", "arm64"), "amd64"), "Processor of tasks."),
  platform_version: describe(withDefault(text(), "LATEST"), "Fargate platform version."),
  assign_public_ip: describe(
    withDefault(onOff(), false),
    "Gives tasks a public address, which those in a public subnet need in order to pull images.",
  ),
  ecr_repository: describe(
    optional(text("repository URI")),
    "ECR repository for the agent's image and for images that are loaded, imported or committed.",
  ),
  registry_credentials: describe(
    withDefault(listOf(matching(/^[^=\s]+=arn:\S+$/, "`host=ARN`")), []),
    "Secrets in Secrets Manager with which tasks pull from other registries than ECR: `ghcr.io=arn:aws:secretsmanager:…`.",
  ),
  pull_through_caches: describe(
    withDefault(listOf(matching(/^[^=\s]+=[^=\s]+$/, "`host=prefix`")), []),
    "ECR pull-through caches from which tasks pull instead of the registry itself: `docker.io=123456789012.dkr.ecr.eu-west-1.amazonaws.com/docker-hub`.",
  ),
  agent_image: describe(optional(text("image reference")), "Image that brings the agent into a task.", {
    defaultText: "the one that `sockerless ecs push-agent` puts into `ecr_repository`",
  }),
  agent_access_point_id: describe(
    optional(text("access point ID")),
    "EFS access point whose directory holds `sockerless-agent`: tasks take the agent from there, read-only, instead of from an image.",
  ),
  agent_mode: describe(
    withDefault(oneOf("direct", "callback"), "direct"),
    "`direct`: frontends and the backend dial the agents of tasks. `callback`: the agents dial the backend at `ecs.callback_url`, for subnets that let nothing in. They prove by `ecs.task_role_arn` which task they are.",
  ),
  callback_url: describe(
    optional(callbackUrl),
    "Address at which agents reach this backend, itself or by way of a load balancer that ends TLS.",
  ),
  callback_listen: callbackListenIn("ecs"),
  agent_ingress: describe(
    withDefault(listOf(text("CIDRs or security group IDs")), []),
    "Who may reach port 9111 in the security groups of user-defined networks: where frontends and the backend run.",
  ),
  network_isolation: describe(
    withDefault(oneOf("security-group", "shared"), "security-group"),
    "One security group for each user-defined network, or the configured groups for all and names only.",
  ),
  cloud_map_namespace_id: describe(
    optional(text("namespace ID")),
    "Cloud Map namespace in which container names are also published, for clients outside.",
  ),
  quota_timeout: describe(
    withDefault(duration(), 60 * 60_000),
    "How long a start waits at most while the account's quota of vCPUs, its network interfaces or its subnets' addresses are used up. This is not counted as `start_timeout`, but for the time in which nothing runs in the cluster whose end would make room.",
  ),
  api_rates: describe(
    withDefault(listOf(matching(/^[a-z-]+=\d+\/\d+(\.\d+)?$/, "`name=burst/second`")), []),
    "Rates at which this account may call AWS, where they are not AWS's defaults: `run-task=100/40`. The names are in docs/backends/ecs-settings.md.",
  ),
  endpoint: describe(
    optional(matching(/^https?:\/\/\S+$/, "a URL")),
    "Another address for all AWS services, for tests and private gateways.",
  ),
  ...innerSocketShape,
  ...cloudAgentShape,
});

/** The `aca:` section. */
export const acaSchema = object({
  subscription_id: describe(text(), "Azure subscription."),
  resource_group: describe(text(), "Resource group of the Container Apps environment."),
  managed_environment_name: describe(text(), "Container Apps environment; it must exist."),
  location: describe(text(), "Azure region of the environment."),
  log_analytics_workspace_id: describe(
    optional(text()),
    "Log Analytics workspace that keeps the logs of ended containers.",
  ),
  storage_account_name: describe(
    optional(text()),
    "Storage account of volumes (Azure Files); without it volumes are refused.",
  ),
  storage_account_key: describe(optional(text()), "Key of that storage account.", { secret: true }),
  registry_server: describe(optional(text()), "Registry for images that are loaded, imported or committed."),
  registry_id: describe(
    optional(
      matching(
        /^\/subscriptions\/[^/]+\/resourceGroups\/[^/]+\/providers\/Microsoft\.ContainerRegistry\/registries\/[^/]+$/i,
        "a registry's resource ID",
      ),
    ),
    "Resource ID of that registry, which fetches images of other users than root by itself.",
    { defaultText: "of the one in `resource_group` that is named like the host of `registry_server`" },
  ),
  registry_username: describe(optional(text()), "User name at that registry, where no identity is used."),
  registry_password: describe(optional(text()), "Password at that registry.", { secret: true }),
  identity: describe(
    optional(text("resource ID")),
    "User-assigned managed identity that pulls images and that containers get.",
  ),
  agent_image: describe(optional(text("image reference")), "Image that brings the agent into a job.", {
    defaultText:
      "the one of this version in `registry_server`, `sockerless:sockerless-agent-<version>-amd64`",
  }),
  callback_url: describe(
    optional(callbackUrl),
    "Address at which agents reach this backend, itself or by way of an ingress that ends TLS; containers in jobs cannot be dialled.",
  ),
  callback_listen: callbackListenIn("aca"),
  default_cpu: describe(
    withDefault(matching(/^\d(\.\d{1,2})?$/, "a number of processors"), "1"),
    "Processors of a container that asks for none. The disk goes with them: 1 GiB at 0.25, 2 at 0.5, 4 at 1, 8 above.",
  ),
  default_memory: describe(
    withDefault(size(), 2 * 1024 ** 3),
    "Memory of a container that asks for none. Container Apps gives 2 GiB for each processor, neither more nor less: the smallest pair that holds both is taken.",
  ),
  replica_timeout: describe(
    withDefault(duration(), 24 * 60 * 60_000),
    "How long a container may run at most: Container Apps ends a job's replica then, which is told as an error.",
  ),
  quota_timeout: describe(
    withDefault(duration(), 60 * 60_000),
    "How long a start waits at most while the environment's processors are used up. This is not counted as `start_timeout`, but for the time in which nothing runs in the environment whose end would make room.",
  ),
  api_rates: describe(
    withDefault(listOf(matching(/^[a-z-]+=\d+\/\d+(\.\d+)?$/, "`name=burst/second`")), []),
    "Rates at which Azure may be called, where they are not its defaults: `reads`, `writes`, `deletes` of the Resource Manager, `log-queries`: `writes=200/10`.",
  ),
  endpoint: describe(
    optional(matching(/^https?:\/\/\S+$/, "a URL")),
    "Another address of the Azure Resource Manager, for tests, private links and national clouds.",
  ),
  logs_endpoint: describe(
    optional(matching(/^https?:\/\/\S+$/, "a URL")),
    "Another address of the queries of Log Analytics.",
    { defaultText: "`https://api.loganalytics.io`" },
  ),
  files_endpoint: describe(
    optional(matching(/^https?:\/\/\S+$/, "a URL")),
    "Another address of the storage account's files, of which only is asked whether they take `storage_account_key`, where nobody may list the account's keys.",
    { defaultText: "`https://<account>.file.core.windows.net`" },
  ),
  ...innerSocketShape,
  ...cloudAgentShape,
});

/** The `kubernetes:` section. */
export const kubernetesSchema = object({
  kubeconfig: describe(optional(path()), "File that says how the cluster is reached.", {
    defaultText:
      "`$KUBECONFIG`, else `~/.kube/config`, else the service account of the pod that this backend runs in",
  }),
  context: describe(optional(text()), "Context of the kubeconfig.", { defaultText: "its current one" }),
  namespace: describe(optional(text()), "Namespace of the pods; it must exist.", {
    defaultText: "that of the context, else `default`",
  }),
  registry: describe(
    optional(text("repository")),
    "Repository that the nodes pull from, for the agent's image and for images that are loaded, imported, committed or built: `registry.example.com/sockerless`.",
  ),
  registry_username: describe(optional(text()), "User name with which this backend pushes to that registry."),
  registry_password: describe(optional(text()), "Password at that registry.", { secret: true }),
  pull_secrets: describe(
    withDefault(listOf(text("names of secrets")), []),
    "Secrets of the namespace with which nodes pull images (`imagePullSecrets`).",
  ),
  agent_image: describe(optional(text("image reference")), "Image that brings the agent into a pod.", {
    defaultText: "the one that `sockerless kubernetes push-agent` puts into `registry`",
  }),
  agent_mode: describe(
    optional(oneOf("api-server", "direct", "callback")),
    "How agents are reached: through the API server's port forwards; `direct`, at the addresses of their pods; or they call the backend at `kubernetes.callback_url` (`callback`), and the API server's port forwards tell only which agent is a pod's.",
    { defaultText: "`direct` in a pod of the cluster, else `api-server`" },
  ),
  callback_url: describe(
    optional(callbackUrl),
    "Address at which agents reach this backend, itself or by way of a load balancer that ends TLS.",
  ),
  callback_listen: callbackListenIn("kubernetes"),
  architecture: describe(
    withDefault(oneOf("amd64", "arm64"), "amd64"),
    "Processor of the nodes that pods run on.",
  ),
  node_selector: describe(
    withDefault(listOf(matching(/^[^=\s]+=[^=\s]*$/, "`label=value`")), []),
    "Labels of the nodes that pods run on, besides that of their processor.",
  ),
  tolerations: describe(
    withDefault(
      listOf(
        matching(
          /^[^=:\s]*(=[^:\s]*)?(:(NoSchedule|PreferNoSchedule|NoExecute))?$/,
          "`key=value:effect`, `key:effect` or `key`",
        ),
      ),
      [],
    ),
    "Taints of nodes that pods tolerate.",
  ),
  priority_class: describe(optional(text()), "Priority class of pods.", {
    defaultText: "the cluster's own",
  }),
  annotations: describe(
    withDefault(listOf(matching(/^[^=\s]+=.*$/, "`name=value`")), []),
    "Annotations of pods.",
  ),
  pod_patch: describe(
    optional(mapping()),
    "Strategic merge patch of every pod, for what there is no setting for: `{spec: {dnsPolicy: Default}}`. The container is `main`. Kubernetes is asked about it when the backend starts.",
  ),
  restricted: describe(
    withDefault(onOff(), false),
    "The namespace enforces the Pod Security Standard `restricted`. Containers need a user by number (`--user 1000`), which their agents are, too: `exec --user`, files of other owners and ports below 1024 are not to be had.",
  ),
  service_account: describe(
    optional(text()),
    "Service account of pods, for rights to pull images and for admission. No container gets its token.",
    { defaultText: "the namespace's own" },
  ),
  runtime_class: describe(optional(text()), "Runtime class of pods.", { defaultText: "the cluster's own" }),
  cpu_request: describe(
    withDefault(matching(/^\d+(\.\d+)?$|^\d+m$/, "a number of processors, or thousandths: `250m`"), "0"),
    "Processors that are reserved for a container that asks for none.",
  ),
  memory_request: describe(
    withDefault(size(), 0),
    "Memory that is reserved for a container that asks for none.",
  ),
  max_cpu: describe(
    optional(matching(/^\d+(\.\d+)?$|^\d+m$/, "a number of processors, or thousandths: `250m`")),
    "The most processors that a container may ask for.",
  ),
  max_memory: describe(optional(size()), "The most memory that a container may ask for."),
  gpu_resource: describe(
    withDefault(text("resource name"), "nvidia.com/gpu"),
    "The nodes' resource that `--gpus` asks for.",
  ),
  network_policies: describe(
    withDefault(onOff(), true),
    "Networks are NetworkPolicies, which hold where the cluster's CNI plugin enforces them. Off: networks are names alone.",
  ),
  services: describe(
    withDefault(onOff(), false),
    "Published ports are a Service as well, by the container's name, for clients in the cluster.",
  ),
  shared_storage_class: describe(
    optional(text()),
    "Storage class of volumes that containers share (driver `local`).",
    { defaultText: "the cluster's default" },
  ),
  shared_access_mode: describe(
    withDefault(oneOf("ReadWriteMany", "ReadWriteOnce"), "ReadWriteMany"),
    "How claims of shared volumes are accessed. Pods on one node share `ReadWriteOnce`, too: enough where there is one, and where the storage class keeps pods on the volume's node.",
  ),
  block_storage_class: describe(
    optional(text()),
    "Storage class of volumes of the driver `block`, which belong to one container.",
    { defaultText: "the cluster's default" },
  ),
  volume_size: describe(withDefault(size(), 10 * 1024 ** 3), "Size of a volume that is made without one."),
  anonymous_volumes: describe(
    withDefault(oneOf("directory", "claim"), "directory"),
    "What an anonymous volume is: a directory of the pod, which each start begins with anew, or a claim.",
  ),
  quota_timeout: describe(
    withDefault(duration(), 60 * 60_000),
    "How long a start waits at most while a quota of the namespace is used up. This is not counted as `start_timeout`, but for the time in which nothing runs there whose end would make room.",
  ),
  ...innerSocketShape,
  ...cloudAgentShape,
});

/** The `builder:` section. */
export const builderSchema = object({
  cache_size: describe(
    withDefault(size(), 20 * 1024 ** 3),
    "The most that the build cache holds; what was used longest ago goes first. 0: as much as there is, within half of what images' configurations may hold.",
  ),
  context_size: describe(
    withDefault(size(), 32 * 1024 ** 3),
    "The most that a build context may hold, unpacked. A larger one is refused, and so is one of more than 1,000,000 entries.",
  ),
  memory: describe(
    withDefault(size(), 2 * 1024 ** 3),
    "The most memory that the builder may take for all builds together, without their steps, which are containers. If they need more, those under way end with an error; the next build works. 0: as much as there is.",
  ),
});

/** The `image:` section. */
export const imageSchema = object({
  compression: describe(
    withDefault(oneOf("gzip", "zstd"), "gzip"),
    "Compression of layers that have none here, those of images that were built, committed, imported or loaded: where `docker push` sends them to a registry, and where a cloud's tasks are to pull them. `zstd` is unpacked faster; who pulls such an image needs containerd 1.5, Docker 23 or newer. A layer that was pulled, or pushed before, is sent as it is, so that digests stay.",
  ),
});

/** The `pool:` section. */
export const poolSchema = object({
  mode: describe(
    withDefault(oneOf("off", "fixed", "learned"), "off"),
    "`fixed`, `learned`: tasks are prepared, and paid for, before containers are started; a start that finds one like its own takes it (docs/backends/ecs.md, docs/backends/aca.md, docs/backends/kubernetes.md). `fixed`: those of `pool.images`; `learned`: those that starts of the last days let expect, as far as `pool.max_idle_hours_per_day` or `pool.max_cost_per_day` goes, one of which has to be given. Backends `ecs`, `aca` and `kubernetes`.",
  ),
  images: describe(
    withDefault(
      listOf(
        matching(
          /^[^=,\s]+=\d+( (cpus=\d+(\.\d+)?|memory=\d+[kmg]?|network=[^,=\s]+|hours=([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d))*$/,
          "`image=count`, with ` cpus=N`, ` memory=SIZE`, ` network=NAME` or ` hours=HH:MM-HH:MM` behind it",
        ),
      ),
      [],
    ),
    "Mode `fixed`: how many tasks wait for containers of which image: `node:22=2 cpus=1 memory=2g network=ci`. They are like `docker run` with `--cpus`, `--memory` and `--network` of these values, and without other settings that tasks are requested with. ` hours=07:30-18:00`: only at that time of each day (UTC), which may go beyond midnight; entries of the same kind add up.",
  ),
  max_tasks: describe(withDefault(count(), 10), "The most tasks that wait at a time, of all images."),
  max_idle_hours_per_day: describe(
    optional(amount()),
    "The most hours that tasks may wait on a day (UTC), all of them together. Once they are used up, none waits until the next day.",
    { defaultText: "no limit, and in mode `learned` that of `pool.max_cost_per_day`" },
  ),
  max_cost_per_day: describe(
    optional(amount()),
    "The most that tasks which wait may cost on a day (UTC), in the currency of the prices. Once it is spent, none waits until the next day.",
    { defaultText: "no limit, and in mode `learned` that of `pool.max_idle_hours_per_day`" },
  ),
  prices: describe(
    optional(path()),
    'File with the prices that `pool.max_cost_per_day` goes by, as for `sockerless cost --prices`: `{"date": "2026-06-01", "of": "…", "currency": "EUR", "perVcpuHour": 0.04, "perGibHour": 0.004}`.',
    { defaultText: "those that are known here, of Fargate in some regions" },
  ),
  max_age: describe(
    withDefault(duration(), 4 * 60 * 60_000),
    "How long a task waits at most before it is stopped and another takes its place. One whose backend is gone ends by itself two minutes later.",
  ),
});

/** The settings at the top of the file. */
export const topSchema = object({
  backend: describe(withDefault(oneOf(...backendNames), "local"), "Where containers run."),
  hosts: describe(optional(listOf(listenAddress)), "Addresses of the Docker API. TCP demands mutual TLS.", {
    flag: "host",
    defaultText: "`unix:///var/run/sockerless.sock`; not as root `unix://$XDG_RUNTIME_DIR/sockerless.sock`",
  }),
  state_dir: describe(optional(path()), "Directory of the backend's state: database, images, logs.", {
    defaultText: "`/var/lib/sockerless/<backend>`; not as root `$XDG_STATE_HOME/sockerless/<backend>`",
  }),
  run_dir: describe(
    optional(path()),
    "Directory of sockets and files that do not outlive the machine's start.",
    {
      defaultText:
        "`/run/sockerless` (not as root `$XDG_RUNTIME_DIR/sockerless`); with a `state_dir` of your own a directory in it that is named by a hash of the state directory's path, so that several instances can run",
    },
  ),
  log_level: describe(
    withDefault(oneOf("trace", "debug", "info", "warn", "error", "fatal", "silent"), "info"),
    "The least important messages that are logged.",
  ),
  log_format: describe(
    withDefault(oneOf("auto", "text", "json"), "auto"),
    "How messages are written: `text` for people, `json` an object a line, `auto` text at a terminal and JSON elsewhere.",
  ),
  log_file: describe(
    optional(path()),
    "File to which `serve --detach` logs; in the foreground it is standard error. It is made with mode 0600, appended to, and grows without bound: have `logrotate` cut it, with `copytruncate`.",
    { defaultText: "`sockerless.log` in the state directory" },
  ),
  listen: describe(optional(listenAddress), "Address of the backend. TCP demands mutual TLS.", {
    defaultText:
      "`unix:///var/run/sockerless-backend.sock` (not as root `unix://$XDG_RUNTIME_DIR/sockerless-backend.sock`); with a `state_dir` or `run_dir` of your own `backend.sock` in the run directory",
  }),
  backend_address: describe(optional(backendAddress), "Where the frontend finds its backend.", {
    defaultText: "the default of `listen`",
  }),
  publish: describe(
    optional(onOff()),
    "The frontend listens for the published ports of containers in the cloud.",
    { defaultText: "`true` in `serve`, else `false`" },
  ),
  hand_over: describe(
    withDefault(onOff(), true),
    "Clients on a unix socket are handed to the agents of local containers, which serve `exec` and `attach` themselves: these streams are faster and outlive the frontend. Archives of running containers and of images, and logs, go the same way. Waits for a container's end and logs that are followed outlive it too. On clouds a process beside the frontend sees when such a client has read its answer's header, so that output follows at once. Off: all streams go through the frontend, and output follows a header after 10 ms or more.",
  ),
  metrics_addr: describe(
    optional(listenAddress),
    "Address of `/metrics` (Prometheus), `/livez` and `/readyz`. A loopback address and a unix socket are served as they are, any other address demands mutual TLS. Without it nothing is measured.",
    { defaultText: "none" },
  ),
  metrics_containers: describe(
    withDefault(onOff(), false),
    "Metrics of each running container, by its ID and name: processor time, memory, processes, network and block devices, as `docker stats` has them. Each scrape asks the agents of at most 500 containers.",
  ),
  tlscacert: describe(optional(path()), "Certificates that a peer's certificate must be signed by."),
  tlscert: describe(
    optional(path()),
    "Own certificate of TCP listeners and of the frontend towards the backend.",
  ),
  tlskey: describe(optional(path()), "Key of that certificate."),
  runtime: describe(optional(text("name or path")), "OCI runtime of the `local` backend.", {
    defaultText: "the first of `runc`, `crun` that works on this machine",
  }),
  block_volume_size: describe(
    withDefault(size(), 10 * 1024 ** 3),
    "Size of a volume of the driver `block` that is made without one (`local` backend). Its image is sparse: it takes what is written.",
  ),
  insecure_registries: describe(
    withDefault(listOf(text("hosts")), []),
    "Registries (`host` or `host:port`) that may be reached without TLS, or with a certificate that nobody vouches for. Those on loopback always may.",
  ),
});
