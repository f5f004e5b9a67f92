locals {
  tls_files = { ca = "ca.pem", cert = "cert.pem", key = "key.pem" }

  # Node, because the image holds no shell: writes each variable FILE_<name> to a file, and gives the directory to the
  # user that the service runs as.
  prepare_script = <<-EOT
    const { chownSync, mkdirSync, writeFileSync } = require("node:fs");
    const files = JSON.parse(process.env.FILES);
    mkdirSync("${local.run_dir}/tmp", { recursive: true });
    for (const [variable, name] of Object.entries(files)) {
      writeFileSync("${local.run_dir}/" + name, process.env[variable], { mode: 0o400 });
      chownSync("${local.run_dir}/" + name, ${local.user}, ${local.user});
    }
    chownSync("${local.run_dir}/tmp", ${local.user}, ${local.user});
    chownSync("${local.run_dir}", ${local.user}, ${local.user});
  EOT

  log_configuration = {
    for container in ["prepare", "sockerless"] : container => {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.service.name
        awslogs-region        = local.region
        awslogs-stream-prefix = container
        max-buffer-size       = "4m"
        mode                  = "non-blocking" # a log that is slow must not stop the service
      }
    }
  }

  prepare_container = {
    name                   = "prepare"
    image                  = var.image
    essential              = false
    user                   = "0"
    entryPoint             = ["node", "--eval", local.prepare_script]
    readonlyRootFilesystem = true
    environment = [
      {
        name  = "FILES"
        value = jsonencode(merge({ CONFIG = "config.yaml" }, { for key, file in local.tls_files : upper("tls_${key}") => file }))
      },
      { name = "CONFIG", value = var.sockerless_config },
    ]
    secrets          = [for key in keys(local.tls_files) : { name = upper("tls_${key}"), valueFrom = var.tls_secret_arns[key] }]
    mountPoints      = [{ sourceVolume = "run", containerPath = local.run_dir, readOnly = false }]
    logConfiguration = local.log_configuration["prepare"]
  }

  sockerless_container = {
    name                   = "sockerless"
    image                  = var.image
    essential              = true
    user                   = tostring(local.user)
    readonlyRootFilesystem = true
    stopTimeout            = 60
    command = [
      "serve",
      "--config", "${local.run_dir}/config.yaml",
      "--host", "tcp://0.0.0.0:${var.docker_port}",
      "--state-dir", local.state_dir,
      "--run-dir", local.run_dir,
      "--tlscacert", "${local.run_dir}/${local.tls_files.ca}",
      "--tlscert", "${local.run_dir}/${local.tls_files.cert}",
      "--tlskey", "${local.run_dir}/${local.tls_files.key}",
      "--log-level", var.log_level,
    ]
    environment = [
      # Groups of user-defined networks are made by the backend: they have to let this service in.
      { name = "SOCKERLESS_ECS_AGENT_INGRESS", value = join(",", concat(local.agent_ingress, [aws_security_group.service.id])) },
      { name = "TMPDIR", value = "${local.run_dir}/tmp" },
    ]
    secrets   = [{ name = "SOCKERLESS_ECS_AGENT_CA", valueFrom = var.agent_ca_secret_arn }]
    dependsOn = [{ containerName = "prepare", condition = "SUCCESS" }]
    mountPoints = concat(
      [{ sourceVolume = "run", containerPath = local.run_dir, readOnly = false }],
      local.keeps_state ? [{ sourceVolume = "state", containerPath = local.state_dir, readOnly = false }] : [],
    )
    portMappings = [{ containerPort = var.docker_port, protocol = "tcp" }]
    # ECS does not read the image's own.
    healthCheck = {
      command     = ["CMD", "node", "/opt/sockerless/dist/bundle/cli/sockerless.js", "healthcheck"]
      interval    = 30
      timeout     = 15
      retries     = 3
      startPeriod = 60
    }
    # Published ports below 1024, without root.
    systemControls   = [{ namespace = "net.ipv4.ip_unprivileged_port_start", value = "0" }]
    logConfiguration = local.log_configuration["sockerless"]
  }
}

resource "aws_ecs_task_definition" "this" {
  container_definitions    = jsonencode([local.prepare_container, local.sockerless_container])
  cpu                      = var.cpu
  execution_role_arn       = aws_iam_role.execution.arn
  family                   = "service-${var.name}" # not sockerless-…: those definitions are the backend's to clean up
  memory                   = var.memory
  network_mode             = "awsvpc"
  requires_compatibilities = ["FARGATE"]
  tags                     = merge(local.tags, { Name = "${var.name}-service" })
  task_role_arn            = aws_iam_role.backend.arn

  runtime_platform {
    cpu_architecture        = var.architecture == "arm64" ? "ARM64" : "X86_64"
    operating_system_family = "LINUX"
  }

  volume {
    name = "run"
  }

  dynamic "volume" {
    for_each = var.state_efs[*]

    content {
      name = "state"

      efs_volume_configuration {
        file_system_id     = volume.value.filesystem_id
        transit_encryption = "ENABLED"

        authorization_config {
          access_point_id = basename(volume.value.access_point_arn)
          iam             = "ENABLED"
        }
      }
    }
  }

  lifecycle {
    precondition {
      condition     = var.memory >= 2 * var.cpu && (var.cpu == 256 ? var.memory <= 2048 : var.memory <= 8 * var.cpu)
      error_message = "Fargate has 2 to 8 GiB of memory for each processor (1024 CPU units)."
    }
    precondition {
      condition     = var.cpu <= 512 ? contains([512, 1024, 2048, 3072, 4096], var.memory) : var.memory % 1024 == 0
      error_message = "Fargate has memory in multiples of 1024 MiB, and 512 MiB with 256 CPU units."
    }
  }
}
