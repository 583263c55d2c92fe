{#-
  How a mart is kept: the model's SQL is what changed since the mart's watermark, and this materialization
  adds it, by DML, in one transaction with the watermark. Window, watermark and bounds live in PostgreSQL
  (schema analytics), so that the compiled SQL carries nothing of one run and any other process can fold
  with it. The table itself is made by a migration and never dropped: `--full-refresh` rebuilds it in place.
-#}
{% materialization fold, adapter="postgres" %}
    {%- set target_relation = this.incorporate(type="table") -%}
    {%- if load_cached_relation(this) is none -%}
        {{ exceptions.raise_compiler_error(this ~ " does not exist; `session-analytics migrate` makes it") }}
    {%- endif -%}
    {%- if flags.EMPTY or flags.SAMPLE -%}
        {{ exceptions.raise_compiler_error(
            "--empty and --sample would move the watermark over rows that were not read"
        ) }}
    {%- endif -%}

    {{ run_hooks(pre_hooks, inside_transaction=false) }}
    {{ run_hooks(pre_hooks, inside_transaction=true) }}

    {% if config.get("contract").enforced %}{% do get_assert_columns_equivalent(sql) %}{% endif %}
    {% call statement("begin_fold") -%}
        -- Compiling what these statements do takes a hundred times longer than doing it.
        set local jit = off;
        -- A build that is killed ends on the server too, with the locks it holds, where the server can notice.
        do $do$
        begin
            set local client_connection_check_interval = '1s';
        exception
            when invalid_parameter_value then null;
        end
        $do$;
        select analytics.begin_fold('{{ this.identifier }}', '{{ invocation_id }}')
    {%- endcall %}
    {#- One range, or in a rebuild as many as keep its memory bounded. -#}
    {%- for range in run_query("select starts_at::text, ends_before::text from analytics.fold_ranges()").rows %}
        {% call statement("main") -%}
            select analytics.begin_range('{{ range[0] }}', '{{ range[1] }}');
            {{ fold_sql(target_relation, sql, config.require("unique_key"), model["columns"].keys() | list) }}
        {%- endcall %}
    {%- endfor %}
    {% call statement("end_fold") -%}
        select analytics.end_fold('{{ this.identifier }}')
    {%- endcall %}

    {% do grant_missing(target_relation, config.get("grants")) %}
    {% do persist_docs_once(target_relation) %}
    {{ run_hooks(post_hooks, inside_transaction=true) }}
    {% do adapter.commit() %}
    {{ run_hooks(post_hooks, inside_transaction=false) }}

    {{ return({"relations": [target_relation]}) }}
{% endmaterialization %}

{#-
  Adds a delta: keys are met or made, sums grow by it, and a key whose sums all became zero vanishes, as it
  would in a rebuild. Every column that is no key is a sum, but those for which the model's config `on_conflict`
  says otherwise.
-#}
{% macro fold_sql(target, delta, keys, columns) -%}
    {%- set others = config.get("on_conflict") or {} -%}
    {%- set sums = columns | reject("in", keys) | reject("in", others) | list -%}
    insert into {{ target }} as folded ({{ columns | join(", ") }})
    select {{ columns | join(", ") }}
    from (
{{ delta }}
    ) as delta
    on conflict ({{ keys | join(", ") }}) do update set
    {%- for column in columns | reject("in", keys) %}
        {{ column }} = {{ others.get(column, "folded." ~ column ~ " + excluded." ~ column) }}{{ "," if not loop.last }}
    {%- endfor %};
    {#- A model of more than sums says itself what a row without anything means. -#}
    {%- if not others %}
        delete from {{ target }}
        where {% for sum in sums %}{{ sum }} = 0{{ " and " if not loop.last }}{% endfor %};
    {%- endif %}
{%- endmacro %}

{#- Opens this invocation's window: the one bound up to which all its models fold. -#}
{% macro open_window() -%}
    {%- if flags.WHICH not in ("run", "build") -%}
        select null
    {%- else -%}
        {%- if flags.FULL_REFRESH -%}
            {{ log("From scratch: every mart is rebuilt in place from the source", info=true) }}
            select analytics.request_rebuild();
            commit;
        {%- endif %}
        select analytics.open_window('{{ invocation_id }}');
        commit
    {%- endif -%}
{%- endmacro %}

{#- Drops feed rows that every mart holds. -#}
{% macro prune_changes() -%}
    {%- if flags.WHICH in ("run", "build") -%}
        select analytics.prune_changes();
        commit
    {%- else -%}
        select null
    {%- endif -%}
{%- endmacro %}
