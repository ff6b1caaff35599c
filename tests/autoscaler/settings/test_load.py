from __future__ import annotations

from pathlib import Path

import pytest

from shoal.autoscaler.core.spec import Pace, ScalingSpec, SloSpec, VariantSpec
from shoal.autoscaler.policy import Mode, ScalingPolicy
from shoal.autoscaler.settings.documents import TargetSettings
from shoal.autoscaler.settings.load import LoadedPolicy, decode_spec, of_spec, read_policies
from shoal.errors import ConfigError

HEAD = "apiVersion: autoscaling.shoal.dev/v1alpha1\nkind: ScalingPolicy\n"
WHOLE = (
    HEAD
    + """\
metadata: {name: chat, namespace: llm}
spec:
  model: llama-70b
  mode: advise
  intervalSeconds: 10
  router: {url: "http://router:8081", moreUrls: ["http://router-2:8081"], keyEnv: ROUTER_KEY}
  slo: {ttftSeconds: 2, tpotSeconds: 0.1, attainment: 0.95}
  pace:
    scaleDownDelaySeconds: 120
    maxUpFactor: 2
    maxUpStep: 1
    maxDownShare: 0.25
    scaleToZeroAfterSeconds: 600
    startUpSeconds: 90
    unschedulableAfterSeconds: 120
  forecast: {quantile: 0.95, periodsSeconds: [600, 86400]}
  gpuBudget: 64
  variants:
    - name: h100
      target: {apiVersion: leaderworkerset.x-k8s.io/v1, kind: LeaderWorkerSet, name: llama}
      minReplicas: 1
      maxReplicas: 4
      podsPerReplica: 2
      gpusPerPod: 8
      costPerHour: 60
      endpointLabels: {gpu: h100}
    - name: spot
      relativeCapacity: 0.5
      endpointLabels: {gpu: spot}
"""
)


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "policies.yaml"
    file.write_text(text)
    return file


def spec_of(tmp_path: Path, spec: str) -> LoadedPolicy:
    [policy] = read_policies(write(tmp_path, f"{HEAD}metadata: {{name: a}}\nspec: {spec}\n"))
    return policy


def test_every_setting_arrives(tmp_path: Path) -> None:
    [found] = read_policies(write(tmp_path, WHOLE))
    assert found.key == "llm/chat"
    assert found.policy == ScalingPolicy(
        model="llama-70b",
        mode=Mode.ADVISE,
        interval_s=10.0,
        spec=ScalingSpec(
            slo=SloSpec(ttft_s=2.0, tpot_s=0.1, attainment=0.95),
            pace=Pace(
                scale_down_delay_s=120.0, max_up_factor=2.0, max_up_step=1, max_down_share=0.25,
                scale_to_zero_after_s=600.0, start_up_s=90.0, unschedulable_after_s=120.0,
            ),
            forecast_quantile=0.95,
            periods_s=(600.0, 86400.0),
            gpu_budget=64,
            variants=(
                VariantSpec(
                    name="h100", min_replicas=1, max_replicas=4, pods_per_replica=2,
                    gpus_per_pod=8, cost_per_hour=60.0,
                ),
                VariantSpec(name="spot", relative_capacity=0.5),
            ),
        ),
    )  # fmt: skip
    assert found.targets == {
        "h100": TargetSettings(
            api_version="leaderworkerset.x-k8s.io/v1", kind="LeaderWorkerSet", name="llama"
        )
    }
    assert found.endpoint_labels == {"h100": {"gpu": "h100"}, "spot": {"gpu": "spot"}}
    assert found.router is not None
    assert found.router.url == "http://router:8081"
    assert found.router.more_urls == ("http://router-2:8081",)
    assert found.router.key_env == "ROUTER_KEY"


def test_what_is_not_said_is_the_cores_default(tmp_path: Path) -> None:
    found = spec_of(tmp_path, "{model: m}")
    assert found.policy == ScalingPolicy(model="m")
    assert found.router is None
    assert found.targets == {}
    assert found.key == "default/a"


def test_a_file_holds_several_policies(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        f"---\n{HEAD}metadata: {{name: a}}\nspec: {{model: x}}\n---\n"
        f"{HEAD}metadata: {{name: b}}\nspec: {{model: y}}\n---\n",
    )
    assert [(p.name, p.policy.model) for p in read_policies(file)] == [("a", "x"), ("b", "y")]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{}", "spec: object missing required field `model`"),
        ("{model: ''}", "spec.model: expected `str` of length >= 1"),
        ("{model: m, mode: off}", "spec.mode: 'off' is not one of advise, auto"),
        ("{model: m, intervallSeconds: 1}", "did you mean intervalSeconds?"),
        ("{model: m, interval_seconds: 1}", "spec has no setting 'interval_seconds'"),
        ("{model: m, slo: {ttftSeconds: 0}}", "spec.slo.ttftSeconds: expected `float` > 0.0"),
        ("{model: m, slo: {attainment: 1}}", "spec.slo.attainment: expected `float` < 1.0"),
        ("{model: m, pace: {maxUpFactor: 1}}", "spec.pace.maxUpFactor: expected `float` > 1.0"),
        ("{model: m, variants: []}", "spec.variants: expected `array` of length >= 1"),
        ("{model: m, variants: [{name: a b}]}", "spec.variants[0].name: expected"),
        ("{model: m, variants: [{minReplicas: 9}]}", "minReplicas 9 is above maxReplicas 8"),
        ("{model: m, variants: [{maxReplicas: '9'}]}", "maxReplicas: expected `int`, got `str`"),
        ("{model: m, variants: [{endpointLabels: {a: b}}, {}]}", "got default, default"),
        ("{model: m, variants: [{}, {name: b}]}", "each needs endpointLabels, 'default' has none"),
        ("{model: m, variants: [{role: prefill}]}", "spec: variants must all have the role both"),
        ("{model: m, variants: [{role: x}]}", "'x' is not one of both, decode, prefill"),
        ("{model: m, router: {url: router:8081}}", "spec.router.url: expected `str` matching"),
        ("{model: m, variants: [{target: {name: x}}]}", "missing required field `kind`"),
        # Parts of paths of the API server: nobody leaves the namespace of his policy.
        ("{model: m, variants: [{target: {kind: D, name: ../../o/d/x}}]}", "target.name: expected"),
        ("{model: m, variants: [{target: {kind: D, name: '..'}}]}", "target.name: expected"),
        (
            "{model: m, variants: [{target: {kind: D, name: x, apiVersion: ../../api/v1}}]}",
            "target.apiVersion: expected",
        ),
        (
            "{model: m, variants: [{target: {kind: D, name: x, apiVersion: 'v1?watch=1'}}]}",
            "target.apiVersion: expected",
        ),
    ],
)
def test_a_mistake_is_told_with_file_place_and_what_is_allowed(
    tmp_path: Path, spec: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        spec_of(tmp_path, spec)
    assert str(caught.value).startswith(f"{tmp_path / 'policies.yaml'}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no ScalingPolicy"),
        ("a: [", "line 1"),
        ("a: 1\na: 2\n", "the key 'a' is there twice"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("[]", "the configuration: expected `object`, got `array`"),
        (HEAD.replace("v1alpha1", "v2") + "metadata: {name: a}\nspec: {model: m}", "apiVersion"),
        (HEAD.replace("Policy", "Thing") + "metadata: {name: a}\nspec: {model: m}", "kind"),
        (HEAD + "metadata: {}\nspec: {model: m}", "metadata: object missing required"),
    ],
)
def test_what_is_no_policy_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"policies\.yaml") as caught:
        read_policies(write(tmp_path, text))
    assert message in str(caught.value)


def test_of_several_documents_the_wrong_one_is_named(tmp_path: Path) -> None:
    one = f"---\n{HEAD}metadata: {{name: a}}\nspec: {{model: x}}\n"
    with pytest.raises(ConfigError, match=r"document 2: metadata.name: 'default/a' is there twice"):
        read_policies(write(tmp_path, one + one))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_policies(tmp_path / "none.yaml")


def test_an_object_of_kubernetes_is_the_same_schema() -> None:
    spec = decode_spec({"model": "m", "gpuBudget": 8})
    assert of_spec(spec, name="a", namespace="n").policy.spec.gpu_budget == 8
    with pytest.raises(ConfigError, match=r"^spec: gpuBudget: expected `int` >= 0"):
        decode_spec({"model": "m", "gpuBudget": -1})
