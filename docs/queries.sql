-- Views over the tables of an experiment, for DuckDB; see docs/tools.md.
-- Run where results/ lies; another experiment is another folder here:
SET VARIABLE results = 'results/faces';

-- Where a table lies says what it is about: the part after `results`, taken apart.
CREATE OR REPLACE MACRO part_of(filename, pattern) AS regexp_extract(replace(filename, '\', '/'), pattern, 1);
CREATE OR REPLACE MACRO seed_of(filename) AS CAST(part_of(filename, '/seed-(\d+)/') AS INTEGER);
CREATE OR REPLACE MACRO method_of(filename) AS part_of(filename, '/seed-\d+/([^/]+)/');
CREATE OR REPLACE MACRO epoch_of(filename) AS CAST(part_of(filename, '/epoch-(\d+)/') AS INTEGER);
CREATE OR REPLACE MACRO task_of(filename) AS part_of(filename, '/epoch-\d+/([^/]+)/[^/]+/[^/]+$');
CREATE OR REPLACE MACRO weighed_of(filename) AS part_of(filename, '/epoch-\d+/[^/]+/([^/]+)/[^/]+$');

-- Every weight of every sample, of all runs and epochs.
CREATE OR REPLACE VIEW weights AS
SELECT seed_of(filename) AS seed, method_of(filename) AS method, epoch_of(filename) AS epoch,
    task_of(filename) AS task, weighed_of(filename) AS dataset, * EXCLUDE (filename)
FROM read_parquet(getvariable('results') || '/seed-*/*/epoch-*/*/*/weights.parquet', filename = true, union_by_name = true);

-- Soft labels (tempered) and the label vectors that the epochs train on.
CREATE OR REPLACE VIEW labels AS
SELECT seed_of(filename) AS seed, method_of(filename) AS method, epoch_of(filename) AS epoch,
    task_of(filename) AS task, weighed_of(filename) AS dataset, * EXCLUDE (filename)
FROM read_parquet(getvariable('results') || '/seed-*/*/epoch-*/*/*/labels.parquet', filename = true, union_by_name = true);

-- The training samples; a column for the labels of each task, null where they are not known.
CREATE OR REPLACE VIEW samples AS
SELECT part_of(filename, '/data/([^/]+)/') AS dataset, * EXCLUDE (filename)
FROM read_parquet(getvariable('results') || '/data/*/train.parquet', filename = true, union_by_name = true);

-- Labels that are known and were never trained on, a row for each sample and task.
CREATE OR REPLACE VIEW held_back AS
SELECT dataset, sample_id, replace(task, 'audit_', '') AS task, class
FROM (
    UNPIVOT (
        SELECT part_of(filename, '/data/([^/]+)/') AS dataset, * EXCLUDE (filename)
        FROM read_parquet(getvariable('results') || '/data/*/audit/train.parquet', filename = true, union_by_name = true)
    ) ON COLUMNS('audit_.*') INTO NAME task VALUE class
);

-- Weights with what is known of the pseudo label: right, wrong, or null.
CREATE OR REPLACE VIEW verdicts AS
SELECT weights.*, held_back.class AS held_back_class, pseudo_class = held_back.class AS is_right
FROM weights LEFT JOIN held_back USING (task, dataset, sample_id);

-- Scores of every epoch of every run; dataset is null where a row is about all that know the task.
CREATE OR REPLACE VIEW metrics AS
SELECT seed_of(filename) AS seed, method_of(filename) AS method, * EXCLUDE (filename)
FROM read_parquet(getvariable('results') || '/seed-*/*/metrics.parquet', filename = true, union_by_name = true);

-- --- questions ----------------------------------------------------------------------------------

-- Does w rank well? Accuracy of the pseudo labels by fifth of w, in each method's last epochs.
SELECT method, task, fifth, count(*) AS n, round(avg(CAST(is_right AS INTEGER)), 3) AS accuracy
FROM (
    SELECT *, ntile(5) OVER (PARTITION BY method, seed, task, dataset, epoch ORDER BY selection_weight) AS fifth
    FROM verdicts
    WHERE is_right IS NOT NULL
    QUALIFY epoch = max(epoch) OVER (PARTITION BY method, seed, task, dataset)
)
GROUP BY ALL
ORDER BY ALL;

-- Wrong and yet trusted: the pseudo labels to look at first.
SELECT method, seed, epoch, task, dataset, sample_id, path, pseudo_class, held_back_class, round(selection_weight, 3) AS w
FROM verdicts JOIN samples USING (dataset, sample_id)
WHERE NOT is_right
ORDER BY selection_weight DESC
LIMIT 10;

-- Samples whose pseudo label changes most often.
SELECT method, seed, task, dataset, sample_id, count(DISTINCT pseudo_class) AS n_classes, list(pseudo_class ORDER BY epoch) AS history
FROM weights
GROUP BY ALL
ORDER BY n_classes DESC, method, seed, task, dataset, sample_id
LIMIT 10;

-- What is confused with what, for one task.
PIVOT (SELECT held_back_class, pseudo_class FROM verdicts WHERE task = 'pose' AND held_back_class IS NOT NULL)
ON pseudo_class USING count(*) ORDER BY held_back_class;

-- The class names of a task, in the order of `pseudo_label`.
SELECT DISTINCT task_of(file_name) AS task, decode(value) AS classes
FROM parquet_kv_metadata(getvariable('results') || '/seed-*/*/epoch-*/*/*/weights.parquet')
WHERE decode(key) = 'classes';
