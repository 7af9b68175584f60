package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// asProgram makes the test binary act as the program, which saves linking the
// control plane twice.
const asProgram = "SANDBOX_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestControlPlane walks through one sandbox's life: a start, use, a kill, a
// restart on the same directory, and an orderly end.
func TestControlPlane(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a control plane twice")
	}
	// As long a path as tests tend to have: longer than a socket's may be.
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 80), "sandbox")
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	first := start(t, "--dir", dir, "--kubeconfig-out", kubeconfig, "--fail-image", "unreachable.example")
	client := connect(t, kubeconfig)

	t.Run("the kubeconfig is private", func(t *testing.T) {
		info, err := os.Stat(kubeconfig)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, want 0600", info.Mode().Perm())
		}
	})
	t.Run("a Deployment gets ready pods", func(t *testing.T) { deploymentBecomesReady(t, client, "ready") })
	t.Run("an image that cannot be pulled", func(t *testing.T) { badImageIsReported(t, client) })
	t.Run("jobs", func(t *testing.T) { jobsEnd(t, client) })
	t.Run("a namespace is deleted with all in it", func(t *testing.T) { namespaceGoes(t, client) })
	t.Run("a directory in use is refused", func(t *testing.T) {
		out, err := program("--dir", dir).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "in use by another sandbox") {
			t.Errorf("error %v, output %q", err, out)
		}
	})

	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-first.done
	second := start(t, "--dir", dir, "--kubeconfig-out", filepath.Join(t.TempDir(), "other"))
	if second.ready != strings.Replace(first.ready, kubeconfig, second.kubeconfig, 1) {
		t.Errorf("after a restart: %q, before: %q; the address must stay", second.ready, first.ready)
	}
	// The client of before: address, authority and credentials still hold.
	eventually(t, "the Deployment of before is ready", func(ctx context.Context) (bool, error) {
		d, err := client.AppsV1().Deployments("default").Get(ctx, "ready", metav1.GetOptions{})
		return err == nil && d.Status.ReadyReplicas == 2, err
	})
	deploymentBecomesReady(t, client, "after-restart")

	begin := time.Now()
	if err := second.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-second.done; err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, second.stderr.Bytes())
	}
	t.Logf("stopped in %s", time.Since(begin).Round(time.Millisecond))
}

func deploymentBecomesReady(t *testing.T, client kubernetes.Interface, name string) {
	t.Helper()
	if _, err := client.AppsV1().Deployments("default").Create(t.Context(), deploymentOf(name, 2, "registry.example/app:1"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Deployment "+name+" is ready", func(ctx context.Context) (bool, error) {
		d, err := client.AppsV1().Deployments("default").Get(ctx, name, metav1.GetOptions{})
		return err == nil && d.Status.ReadyReplicas == 2, err
	})
}

func badImageIsReported(t *testing.T, client kubernetes.Interface) {
	for name, image := range map[string]string{"tag": "registry.example/app:broken", "flag": "unreachable.example/app:1"} {
		if _, err := client.AppsV1().Deployments("default").Create(t.Context(), deploymentOf(name, 1, image), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the pod of "+name+" waits for its image", func(ctx context.Context) (bool, error) {
			pods, err := client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=" + name})
			if err != nil || len(pods.Items) != 1 || len(pods.Items[0].Status.ContainerStatuses) != 1 {
				return false, err
			}
			w := pods.Items[0].Status.ContainerStatuses[0].State.Waiting
			return w != nil && w.Reason == "ImagePullBackOff" && pods.Items[0].Status.Phase == corev1.PodPending, nil
		})
	}
}

func jobsEnd(t *testing.T, client kubernetes.Interface) {
	for name, test := range map[string]struct {
		command []string
		want    batchv1.JobConditionType
	}{
		"succeeds": {nil, batchv1.JobComplete},
		"fails":    {[]string{"sh", "-c", "echo no; exit 2"}, batchv1.JobFailed},
	} {
		job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}}
		job.Spec.BackoffLimit = new(int32)
		job.Spec.Template = template(name, "registry.example/job:1")
		job.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
		job.Spec.Template.Spec.Containers[0].Command = test.command
		if _, err := client.BatchV1().Jobs("default").Create(t.Context(), job, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "job "+name+" ends", func(ctx context.Context) (bool, error) {
			j, err := client.BatchV1().Jobs("default").Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			for _, c := range j.Status.Conditions {
				if c.Type == test.want && c.Status == corev1.ConditionTrue {
					return true, nil
				}
			}
			return false, nil
		})
	}
}

func namespaceGoes(t *testing.T, client kubernetes.Interface) {
	ctx := t.Context()
	const ns = "doomed"
	if _, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	d := deploymentOf("web", 2, "registry.example/app:1")
	if _, err := client.AppsV1().Deployments(ns).Create(ctx, d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
	}}
	if _, err := client.CoreV1().PersistentVolumeClaims(ns).Create(ctx, claim, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespace is in use", func(ctx context.Context) (bool, error) {
		d, err := client.AppsV1().Deployments(ns).Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		c, err := client.CoreV1().PersistentVolumeClaims(ns).Get(ctx, "data", metav1.GetOptions{})
		return err == nil && d.Status.ReadyReplicas == 2 && c.Status.Phase == corev1.ClaimBound, err
	})
	if err := client.CoreV1().Namespaces().Delete(ctx, ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespace is gone", func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, err
	})
}

func deploymentOf(name string, replicas int32, image string) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas,
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
		Template: template(name, image),
	}}
}

func template(name, image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}},
	}
}

// running is a started program.
type running struct {
	cmd        *exec.Cmd
	ready      string // the line it printed
	kubeconfig string
	stderr     bytes.Buffer
	done       chan error
}

func program(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// start runs the program until it is ready.
func start(t *testing.T, args ...string) *running {
	t.Helper()
	begin := time.Now()
	r := &running{cmd: program(args...), done: make(chan error, 1)}
	r.cmd.Stderr = &r.stderr
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.cmd.Process.Kill() })
	lines := bufio.NewScanner(stdout)
	if lines.Scan() {
		r.ready = lines.Text()
	}
	go func() { r.done <- r.cmd.Wait() }()
	var host string
	if _, err := fmt.Sscanf(r.ready, "sandbox ready: %s kubeconfig %s", &host, &r.kubeconfig); err != nil {
		t.Fatalf("it said %q instead of being ready; it ended: %v\n%s", r.ready, <-r.done, r.stderr.Bytes())
	}
	t.Logf("ready in %s", time.Since(begin).Round(time.Millisecond))
	return r
}

func connect(t *testing.T, kubeconfig string) kubernetes.Interface {
	t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS = -1
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// eventually waits for a condition and reports the last error seen.
func eventually(t *testing.T, what string, f func(context.Context) (bool, error)) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (done bool, err error) {
		done, last = f(ctx)
		return done, nil
	})
	if err != nil {
		t.Fatalf("%s: %v", what, errors.Join(err, last))
	}
}
